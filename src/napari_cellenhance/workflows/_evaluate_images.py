"""What evaluations of restored images share: scores after the best affine fit, filters at their best, tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["CLASSICAL", "Plane", "best_of", "fitted", "mean_sd", "middle_window", "scores_of"]

Plane = NDArray[np.float32]
"""Or a volume: filters act along all axes, but for non-local means, which take planes one by one."""
Filter = Callable[[Plane, Plane], tuple[Plane, str]]
"""Poor and clean image → the filtered one, and the setting that the clean one likes best."""

_SIGMAS = (0.7, 1.0, 1.5, 2.0, 2.5, 3.0)
_SIZES = (3, 5, 7)
_STRENGTHS = (0.6, 0.8, 1.0, 1.2)


def scores_of(image: Plane, clean: Plane, data_range: float) -> dict[str, float]:
    """PSNR in dB and SSIM, both after the best affine fit; SSIM of a volume is the mean of its planes."""
    from napari_cellenhance.core.metrics import scale_invariant_psnr, ssim

    planes = zip(_planes_of(fitted(image, clean)), _planes_of(clean), strict=True)
    return {
        "psnr": scale_invariant_psnr(image, clean, data_range),
        "ssim": float(np.mean([ssim(one, other, data_range) for one, other in planes])),
    }


def _planes_of(image: NDArray[Any]) -> NDArray[Any]:
    return image.reshape(-1, *image.shape[-2:])


def fitted(image: Plane, clean: Plane) -> NDArray[np.float64]:
    """α·x + β nearest to the clean image."""
    x, y = image.astype(np.float64), clean.astype(np.float64)
    variance = float(x.var())
    slope = float(((x - x.mean()) * (y - y.mean())).mean()) / variance if variance > 0 else 0.0
    result: NDArray[np.float64] = slope * (x - x.mean()) + y.mean()
    return result


def best_of(candidates: Mapping[str, Plane], clean: Plane) -> tuple[Plane, str]:
    """The one with the best affine PSNR, and its name."""
    from napari_cellenhance.core.metrics import scale_invariant_psnr

    scores = {name: scale_invariant_psnr(image, clean, 1.0) for name, image in candidates.items()}
    name = max(scores, key=lambda key: scores[key])
    return candidates[name], name


def _gaussian(noisy: Plane, clean: Plane) -> tuple[Plane, str]:
    from scipy.ndimage import gaussian_filter

    return best_of({f"σ {sigma:g} px": gaussian_filter(noisy, sigma) for sigma in _SIGMAS}, clean)


def _median(noisy: Plane, clean: Plane) -> tuple[Plane, str]:
    from scipy.ndimage import median_filter

    return best_of({f"{size} px": median_filter(noisy, size) for size in _SIZES}, clean)


def _non_local_means(noisy: Plane, clean: Plane) -> tuple[Plane, str]:
    from skimage.restoration import denoise_nl_means

    from napari_cellenhance.core.noise import estimate_sigma

    planes = _planes_of(noisy)
    sigma = float(np.mean([estimate_sigma(plane) for plane in planes]))

    def at(strength: float) -> Plane:
        made = [
            denoise_nl_means(plane, patch_size=5, patch_distance=6, h=strength * sigma, sigma=sigma, fast_mode=True)
            for plane in planes
        ]
        return np.stack(made).astype(np.float32).reshape(noisy.shape)

    return best_of({f"h {strength:g} σ": at(strength) for strength in _STRENGTHS}, clean)


CLASSICAL: Mapping[str, Filter] = {
    "noisy": lambda noisy, clean: (noisy, ""),
    "gaussian": _gaussian,
    "median": _median,
    "nlm": _non_local_means,
}
"""Filters each at the setting that the truth likes best, which is more than anybody has who needs them."""


def mean_sd(values: Sequence[float], n_digits: int = 2) -> str:
    """Mean ± standard deviation of some numbers, as in a table."""
    if not values:
        return "–"
    deviation = np.std(values, ddof=1) if len(values) > 1 else 0.0
    return f"{np.mean(values):.{n_digits}f} ± {deviation:.{n_digits}f}"


def middle_window(plane: NDArray[Any], side: int = 256) -> tuple[slice, ...]:
    """A window in the middle of a large plane, to show."""
    starts = [max(0, (n - side) // 2) for n in plane.shape]
    return tuple(slice(start, start + min(n, side)) for start, n in zip(starts, plane.shape, strict=True))
