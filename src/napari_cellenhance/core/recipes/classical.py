"""Classical filters behind the same contract as the networks, so that they can be compared.

The statistics that keep tiles and whole planes alike (percentiles, the largest response that
becomes 1) are measured on whole planes; everything else depends on a window and its halo only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ImageError, ModelNotFoundError, ParameterError
from napari_cellenhance.core.recipes import classical_responses as responses
from napari_cellenhance.core.recipes.protocol import Checkpoint, Enhancer, FilterInfo, Region, StrengthInfo
from napari_cellenhance.core.streamed import Counted
from napari_cellenhance.core.tiling import split

__all__ = ["CLASSICAL", "Calibration", "ClassicalEnhancer", "make_classical"]

Window = NDArray[np.float32]
Response = Callable[[Window], Window]

STRETCH_PERCENT = (2.0, 99.8)
_MEASURE_TILE_PX = 2048
_SMALLEST_RESPONSE = 1e-6
"""Below it there is only rounding: a flat plane must not be blown up to full contrast."""


@dataclass(frozen=True)
class Calibration:
    """What a classical filter knows about the whole planes.

    Parameters
    ----------
    planes : tuple of ndarray
        Kept by reference where the scale depends on the strength, to be measured when asked.
    ends : tuple of float
        Grey values of the percentiles for ``percentile-stretch``.
    """

    planes: tuple[Window, ...] = ()
    ends: tuple[float, float] = (0.0, 1.0)
    _largest: dict[tuple[str, float], float] = field(default_factory=dict, repr=False, compare=False)

    def largest(self, name: str, strength: float, halo_px: int, response: Response) -> float:
        """Largest value of ``response`` over all planes; measured once per strength, tile by tile."""
        key = (name, strength)
        if key not in self._largest:
            self._largest[key] = max(
                float(response(plane[tile.outer.slices])[tile.core_in_outer.slices].max())
                for plane in self.planes
                for tile in split(plane.shape, _MEASURE_TILE_PX, halo_px)
            )
        return self._largest[key]


@dataclass(frozen=True, slots=True)
class _Filter:
    """A filter as a table row.

    Parameters
    ----------
    info : FilterInfo
    halo_px : callable
        Strength → context needed around a window, in pixels.
    response : callable
        Strength and calibration → function of a window.
    is_scaled : bool
        Negative responses become 0 and the largest one of the planes becomes 1.
    """

    info: FilterInfo
    halo_px: Callable[[float], int]
    response: Callable[[float, Calibration], Response]
    is_scaled: bool = False


@dataclass(frozen=True, slots=True)
class _Features:
    """A region with as much context as the largest strength needs."""

    window: Window
    outer: Region
    region: Region
    calibration: Calibration


class ClassicalEnhancer:
    """A classical filter that keeps the contract of ``core.recipes.protocol.Enhancer``.

    Parameters
    ----------
    spec : _Filter
        A row of the table below; see :func:`make_classical`.
    """

    info: FilterInfo

    def __init__(self, spec: _Filter) -> None:
        self._spec = spec
        self.info = spec.info
        self.halo_px = spec.halo_px(spec.info.strength.maximum)

    def calibrate(self, planes: Sequence[Window], checkpoint: Checkpoint) -> Calibration:
        """Measure percentiles, or remember the planes to measure responses on.

        Raises
        ------
        ImageError
            No planes, or planes that are not two-dimensional.
        """
        if not planes or any(plane.ndim != 2 or plane.size == 0 for plane in planes):
            raise ImageError("a filter is calibrated on at least one plane with rows and columns; got none")
        checkpoint()
        if self._spec.info.id == "percentile-stretch":
            low, high = Counted(partial(_bands, planes)).percentiles(STRETCH_PERCENT)
            return Calibration(ends=(low, high))
        return Calibration(planes=tuple(planes) if self._spec.is_scaled else ())

    def encode(self, plane: Window, region: Region, calibration: Any) -> _Features:
        """Cut out the region with the context that the largest strength needs."""
        outer = region.grown(self.halo_px, plane.shape)
        window = plane[outer.slices]
        # A small view would keep a large plane alive in the caches of the preview.
        return _Features(window if outer.shape == plane.shape else window.copy(), outer, region, calibration)

    def decode(self, features: _Features, strength: float) -> Window:
        """Filter the region.

        Parameters
        ----------
        features : object
            From :meth:`encode`.
        strength : float
            Greater than 0; clamped to the slider's range.

        Returns
        -------
        ndarray of the region's shape
            float32 in [0, 1].

        Raises
        ------
        ParameterError
            Strength 0 (the input itself), or no number.
        """
        strength = self.info.strength.clamp(strength)
        if strength == 0.0:
            raise ParameterError("strength 0 is the input itself and needs no filter; expected more than 0")
        spec, calibration = self._spec, features.calibration
        response = spec.response(strength, calibration)
        halo = spec.halo_px(strength)
        # The outer window ends where the plane does, or has context enough for every strength.
        inner = features.region.inside(features.outer)
        needed = inner.grown(halo, features.outer.shape)
        result = response(features.window[needed.slices])[inner.inside(needed).slices]
        if spec.is_scaled:
            largest = calibration.largest(spec.info.id, strength, halo, response)
            if largest < _SMALLEST_RESPONSE:
                return np.zeros(features.region.shape, np.float32)
            result = result / np.float32(largest)
        return np.ascontiguousarray(np.clip(result, 0.0, 1.0), np.float32)

    def calibrate_and_encode(self, plane: Window, checkpoint: Checkpoint) -> tuple[Calibration, _Features]:
        """Calibrate on one plane and encode all of it."""
        calibration = self.calibrate([plane], checkpoint)
        return calibration, self.encode(plane, Region.whole(plane), calibration)


def _bands(planes: Sequence[Window]) -> Iterator[Window]:
    """Planes in bands of rows: a large one is never copied as a whole."""
    for plane in planes:
        n_rows = max(1, _MEASURE_TILE_PX**2 // plane.shape[1])
        for start in range(0, plane.shape[0], n_rows):
            yield plane[start : start + n_rows]


def make_classical(filter_id: str) -> Enhancer:
    """Open a classical filter.

    Raises
    ------
    ModelNotFoundError
        No classical filter of that id.
    """
    for spec in _FILTERS:
        if spec.info.id == filter_id:
            return ClassicalEnhancer(spec)
    known = ", ".join(spec.info.id for spec in _FILTERS)
    raise ModelNotFoundError(f"there is no classical filter {filter_id!r}; expected one of: {known}")


# --- the filters ------------------------------------------------------------------------


def _no_halo(strength: float) -> int:
    return 0


def _median_radius(strength: float) -> int:
    return int(strength + 0.5)


def _stretch(strength: float, calibration: Calibration) -> Response:
    # The ends move from 0 and 1 to the percentiles, so a stretch stays a stretch on the way.
    low, high = calibration.ends
    return partial(responses.stretch, low=strength * low, high=1.0 + strength * (high - 1.0))


def _frangi(strength: float, calibration: Calibration) -> Response:
    halo = responses.reach(strength)
    norm = calibration.largest("hessian-norm", strength, halo, partial(responses.hessian_norm, sigma=strength))
    # The norm of a flat plane is rounding, which must not be mistaken for structure.
    return partial(responses.vesselness, sigma=strength, norm_scale=norm / 2 if norm > _SMALLEST_RESPONSE else 1.0)


def _sigma(default: float, maximum: float, help_text: str, minimum: float = 0.0) -> StrengthInfo:
    return StrengthInfo(
        label="σ", unit="px", help=help_text, default=default, minimum=minimum, maximum=maximum, step=0.1
    )


_FINEST_SIGMA = 0.5
"""A kernel narrower than a pixel has no derivatives to speak of."""


_FILTERS: tuple[_Filter, ...] = (
    _Filter(
        info=FilterInfo(
            id="percentile-stretch",
            title="Percentile stretch",
            group="Classical",
            summary="Linear contrast: the darkest 2 % of the pixels become black, the brightest 0.2 % white.",
            strength=StrengthInfo(
                label="Amount",
                help="1 stretches from the 2nd to the 99.8th percentile; less moves the ends part of the way.",
                default=1.0,
                maximum=1.0,
                step=0.01,
            ),
        ),
        halo_px=_no_halo,
        response=_stretch,
    ),
    _Filter(
        info=FilterInfo(
            id="log-lut",
            title="Logarithm",
            group="Classical",
            summary="Logarithmic look-up table: lifts dim objects without saturating bright ones.",
            strength=StrengthInfo(
                label="Gain",
                help="Gain g of ln(1 + g·x) / ln(1 + g). The larger, the more dim grey values are lifted; "
                "255 is the logarithm of an 8-bit image.",
                default=255.0,
                maximum=1000.0,
                step=1.0,
            ),
        ),
        halo_px=_no_halo,
        response=lambda strength, _: partial(responses.log_curve, gain=strength),
    ),
    _Filter(
        info=FilterInfo(
            id="gamma",
            title="Gamma",
            group="Classical",
            summary="Power law: darkens the ground more than the objects.",
            strength=StrengthInfo(
                label="γ − 1",
                help="The exponent γ is 1 + this value. The larger, the darker the ground; 1 squares the grey values.",
                default=1.0,
                maximum=4.0,
                step=0.05,
            ),
        ),
        halo_px=_no_halo,
        response=lambda strength, _: partial(responses.gamma_curve, exponent=1.0 + strength),
    ),
    _Filter(
        info=FilterInfo(
            id="gaussian",
            title="Gaussian",
            group="Classical",
            summary="Smooths noise, and edges with it.",
            strength=_sigma(2.0, 20.0, "Standard deviation of the Gaussian. Details smaller than about 2σ vanish."),
        ),
        halo_px=responses.reach,
        response=lambda strength, _: partial(responses.gaussian, sigma=strength),
    ),
    _Filter(
        info=FilterInfo(
            id="median",
            title="Median",
            group="Classical",
            summary="Removes single odd pixels and keeps edges.",
            strength=StrengthInfo(
                label="Radius",
                unit="px",
                help="The median is taken over a square of side 2 · radius + 1; 1 is 3×3, 4 is 9×9.",
                default=1.0,
                maximum=5.0,
                step=1.0,
            ),
        ),
        halo_px=_median_radius,
        response=lambda strength, _: partial(responses.median, radius=_median_radius(strength)),
    ),
    _Filter(
        info=FilterInfo(
            id="bilateral",
            title="Bilateral",
            group="Classical",
            summary="Smooths noise inside objects but not across their edges.",
            strength=_sigma(
                1.5, 4.0, "Standard deviation in space. Grey values apart by more than a tenth of the range do not mix."
            ),
            reference="Tomasi & Manduchi, ICCV 1998",
        ),
        halo_px=partial(responses.reach, span=responses.BILATERAL_SPAN),
        response=lambda strength, _: partial(responses.bilateral, sigma=strength),
    ),
    _Filter(
        info=FilterInfo(
            id="dog",
            title="Difference of Gaussians (DoG)",
            group="Classical",
            summary="Brings out bright objects of one size on uneven ground.",
            strength=_sigma(
                3.0, 20.0, "σ of the narrower Gaussian; the wider one is 1.6 σ. About 0.6 of the radius.", _FINEST_SIGMA
            ),
            reference="Marr & Hildreth, Proc. R. Soc. B 207, 1980",
        ),
        halo_px=lambda strength: responses.reach(responses.DOG_RATIO * strength),
        response=lambda strength, _: partial(responses.difference_of_gaussians, sigma=strength),
        is_scaled=True,
    ),
    _Filter(
        info=FilterInfo(
            id="log",
            title="Laplacian of Gaussian (LoG)",
            group="Classical",
            summary="Brings out bright blobs of one size; each becomes a peak at its centre.",
            strength=_sigma(
                4.0, 20.0, "A blob of radius r answers strongest at σ = r / √2, about 0.7 of its radius.", _FINEST_SIGMA
            ),
            reference="Lindeberg, Int. J. Comput. Vis. 30, 1998",
        ),
        halo_px=responses.reach,
        response=lambda strength, _: partial(responses.laplacian_of_gaussian, sigma=strength),
        is_scaled=True,
    ),
    _Filter(
        info=FilterInfo(
            id="sobel",
            title="Sobel edges",
            group="Classical",
            summary="Brightness of a pixel becomes the steepness of the image there: outlines.",
            strength=_sigma(
                1.0, 10.0, "The image is smoothed by a Gaussian of this σ first, against noise.", _FINEST_SIGMA
            ),
        ),
        halo_px=lambda strength: responses.reach(strength) + 1,
        response=lambda strength, _: partial(responses.sobel_magnitude, sigma=strength),
        is_scaled=True,
    ),
    _Filter(
        info=FilterInfo(
            id="frangi",
            title="Frangi ridges",
            group="Classical",
            summary="Brings out bright lines of one width: fibres, vessels, membranes.",
            strength=_sigma(2.0, 10.0, "About half the width of the lines.", _FINEST_SIGMA),
            reference="Frangi et al., MICCAI 1998",
        ),
        halo_px=responses.reach,
        response=_frangi,
        is_scaled=True,
    ),
)

CLASSICAL: tuple[FilterInfo, ...] = tuple(spec.info for spec in _FILTERS)
"""Cards of the classical filters, in the order that the doors show."""
