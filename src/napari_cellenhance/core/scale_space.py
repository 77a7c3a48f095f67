"""Blobs of unknown size: the detector of the NU-Net paper, with its threshold left open until afterwards.

References
----------
.. [1] Lim et al., "NU-Net", 2023, Fig. 5 and 6 (``blob_log`` of scikit-image, threshold optimised).
.. [2] Lindeberg, Int. J. Comput. Vis. 30, 1998.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.postprocess import disc_overlap

__all__ = ["ScaleSpaceMaxima", "blob_sigmas", "scale_space_maxima"]

_FINEST_SIGMA_PX = 3.0
"""A finest σ of more than twice this is sought in an image of fewer pixels."""
_MAX_OVERLAP = 0.5


def blob_sigmas(diameter_px: float, n: int = 5) -> NDArray[np.float64]:
    """Scales for blobs of half to one and a half times a diameter: σ = r/√2 ([2]_), evenly spaced.

    Parameters
    ----------
    diameter_px : float
        Typical diameter, in pixels.
    n : int
        Number of scales.
    """
    if not (np.isfinite(diameter_px) and diameter_px > 0):
        raise ParameterError(f"the diameter is {diameter_px} px; expected more than 0")
    middle = diameter_px / 2 / np.sqrt(2.0)
    return np.linspace(0.5 * middle, 1.5 * middle, n)


@dataclass(frozen=True, slots=True)
class ScaleSpaceMaxima:
    """Every maximum of the scale space of a plane, strongest first.

    Parameters
    ----------
    points : ndarray of shape (N, 2)
        Row and column, in pixels.
    sigmas : ndarray of shape (N,)
        Scale, in pixels; the radius of the blob is √2·σ.
    responses : ndarray of shape (N,)
        −σ²∇²G_σ.
    """

    points: NDArray[np.float64]
    sigmas: NDArray[np.float64]
    responses: NDArray[np.float64]

    def above(self, threshold: float) -> NDArray[np.float64]:
        """Points of the blobs above a threshold; of two that overlap by more than half, the larger stays."""
        is_found = self.responses > threshold
        points, sigmas = self.points[is_found], self.sigmas[is_found]
        return points[_larger_ones(points, sigmas)]


def scale_space_maxima(plane: NDArray[np.floating], sigmas: NDArray[np.float64], least: float) -> ScaleSpaceMaxima:
    """Find the maxima that ``skimage.feature.blob_log`` starts from, with their responses.

    One search serves every threshold from ``least`` upwards: :meth:`ScaleSpaceMaxima.above`.

    Parameters
    ----------
    plane : ndarray of shape (Y, X)
    sigmas : ndarray
        Rising, in pixels.
    least : float
        Smallest response of interest.

    Raises
    ------
    ImageError
        Not a plane.
    ParameterError
        Scales that do not rise, or are not positive.

    Notes
    -----
    Where even the finest scale spans many pixels, the plane is averaged over blocks first: responses hardly change,
    and it takes a fraction of the time. Positions are then exact to half a block, a sixth of the finest σ.
    """
    pixels = np.asarray(plane, np.float32)
    if pixels.ndim != 2:
        raise ImageError(f"blobs are sought plane by plane; got an image of shape {pixels.shape}")
    scales = np.asarray(sigmas, np.float64)
    if not scales.size or scales[0] <= 0 or (np.diff(scales) <= 0).any():
        raise ParameterError(f"the scales are {scales.tolist()}; expected positive numbers that rise")
    from scipy.ndimage import gaussian_laplace
    from skimage.feature import peak_local_max

    block = max(1, int(scales[0] / _FINEST_SIGMA_PX))
    small = _block_means(pixels, block)
    inner = scales / block
    cube = np.stack([-gaussian_laplace(small, sigma) * np.float32(sigma**2) for sigma in inner], axis=-1)
    peaks = peak_local_max(  # type: ignore[no-untyped-call]
        cube, threshold_abs=least, footprint=np.ones((3, 3, 3)), exclude_border=False
    )
    responses = cube[tuple(peaks.T)].astype(np.float64)
    points = (peaks[:, :2] + 0.5) * block - 0.5
    return ScaleSpaceMaxima(points.astype(np.float64), scales[peaks[:, 2]], responses)


def _block_means(plane: NDArray[np.float32], block: int) -> NDArray[np.float32]:
    """Mean over blocks; the edge is repeated to fill the last ones."""
    if block == 1:
        return plane
    height, width = plane.shape
    padded = np.pad(plane, [(0, -height % block), (0, -width % block)], mode="edge")
    n_rows, n_columns = padded.shape[0] // block, padded.shape[1] // block
    means: NDArray[np.float32] = padded.reshape(n_rows, block, n_columns, block).mean(axis=(1, 3), dtype=np.float32)
    return means


def _larger_ones(points: NDArray[np.float64], sigmas: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which blobs are left when, of each overlapping pair, the smaller is dropped."""
    from scipy.spatial import KDTree

    is_kept = np.ones(len(points), bool)
    if len(points) < 2:
        return is_kept
    radii = sigmas * np.sqrt(2.0)
    pairs = KDTree(points).query_pairs(2 * radii.max(), output_type="ndarray")
    if not len(pairs):
        return is_kept
    first, second = pairs[:, 0], pairs[:, 1]
    distance = np.linalg.norm(points[first] - points[second], axis=1)
    overlaps = disc_overlap(distance, radii[first], radii[second]) > _MAX_OVERLAP
    first, second = first[overlaps], second[overlaps]
    # Of two blobs of one size the weaker goes, and points are sorted by response.
    second_is_larger = radii[second] > radii[first]
    winners, losers = np.where(second_is_larger, second, first), np.where(second_is_larger, first, second)
    order = np.lexsort((winners, -radii[winners]))
    for winner, loser in zip(winners[order], losers[order], strict=True):
        if is_kept[winner]:
            is_kept[loser] = False
    return is_kept
