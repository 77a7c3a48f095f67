"""Resolution of images by Fourier ring correlation, plane by plane, in pixels and micrometres."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.workflows._measured import MeasuredImage, check_alike, numbered, open_layer
from napari_cellenhance.workflows.measure import describe_layers
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, Progress, never_cancelled, no_progress

if TYPE_CHECKING:
    from napari_cellenhance.core.frc import RingCorrelation

__all__ = [
    "FILTERED_NOTE",
    "Resolution",
    "ResolutionRequest",
    "check_square",
    "curve_rows",
    "measure",
    "record",
    "to_rows",
]

FILTERED_NOTE = (
    "FRC of a single image takes the noise of neighbouring pixels for independent. In a filtered, enhanced or denoised "
    "image it is not: there the number says how smooth the image is, not how much of the specimen it shows."
)
_SQUARE = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolutionRequest:
    """An image, or two of one field.

    Parameters
    ----------
    image : MeasuredImage
    second : MeasuredImage or None
        The same field once more, with noise of its own. None: the image is split in halves.
    pixel_um : (float, float) or None
        Height and width of a pixel; None: not known.
    """

    image: MeasuredImage
    second: MeasuredImage | None = None
    pixel_um: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """What was found on each plane.

    Parameters
    ----------
    layer : str
    planes : tuple of str
        Names; a single plane has none.
    curves : tuple of RingCorrelation
    pixel_um : float or None
    is_pair : bool
        Whether two images were compared.
    is_complete : bool
        False when stopped before the last plane.
    """

    layer: str
    planes: tuple[str, ...]
    curves: tuple[RingCorrelation, ...]
    pixel_um: float | None
    is_pair: bool
    is_complete: bool = True

    @property
    def resolution_px(self) -> float:
        """Median over the planes, in pixels; NaN where no plane shows structure that its halves share."""
        found = [curve.resolution_px for curve in self.curves if np.isfinite(curve.resolution_px)]
        return float(np.median(found)) if found else float("nan")

    @property
    def resolution_um(self) -> float:
        """The same in µm; NaN without pixel size."""
        return self.resolution_px * self.pixel_um if self.pixel_um is not None else float("nan")

    @property
    def n_at_limit(self) -> int:
        """Planes on which the image is as fine as can be told, or finer."""
        return sum(curve.is_at_limit for curve in self.curves)


def check_square(pixel_um: tuple[float, float] | None, name: str) -> None:
    """Refuse pixels that are no squares: their Fourier rings would be ellipses of two resolutions.

    Raises
    ------
    ImageError
    """
    if pixel_um is not None and abs(pixel_um[0] / pixel_um[1] - 1.0) > _SQUARE:
        raise ImageError(
            f"“{name}” has pixels of {pixel_um[0]:g} × {pixel_um[1]:g} µm (Y, X); Fourier ring correlation needs "
            "square ones, since a ring mixes both directions. Resample the image first"
        )


def measure(
    request: ResolutionRequest, *, on_progress: OnProgress = no_progress, is_cancelled: IsCancelled = never_cancelled
) -> Resolution:
    """Find the resolution of every plane.

    Raises
    ------
    AxesError, ImageError
        Pixels that are no squares, planes of less than 64 px (of two images, 32 px), constant planes, or two images
        that do not fit each other.
    """
    from napari_cellenhance.core import frc

    check_square(request.pixel_um, request.image.name)
    layer = open_layer(request.image)
    second = None if request.second is None else open_layer(request.second)
    if second is not None:
        check_alike(layer, [second])
    names, curves = [], []
    for number, name in numbered(layer):
        if is_cancelled():
            break
        what = f"Resolution of “{layer.name}” {name}".rstrip()
        on_progress(Progress(n_done=number, n_total=len(layer.planes), message=what))
        plane = layer.stored(number)
        try:
            curve = frc.one_image(plane) if second is None else frc.two_images(plane, second.stored(number))
        except ImageError as error:
            raise ImageError(f"“{layer.name}” {name}: {error}".replace(" :", ":")) from error
        names.append(name)
        curves.append(curve)
    return Resolution(
        layer=layer.name, planes=tuple(names), curves=tuple(curves), is_pair=second is not None,
        pixel_um=None if request.pixel_um is None else float(np.sqrt(np.prod(request.pixel_um))),
        is_complete=len(curves) == len(layer.planes),
    )  # fmt: skip


def to_rows(found: Sequence[Resolution]) -> list[dict[str, Any]]:
    """One row for each plane of each image."""
    rows = []
    for each in found:
        um = float("nan") if each.pixel_um is None else each.pixel_um
        for name, curve in zip(each.planes, each.curves, strict=True):
            rows.append(
                {
                    "image": each.layer,
                    "plane": name,
                    "frc_px": curve.resolution_px,
                    "frc_um": curve.resolution_px * um,
                    "at_limit": curve.is_at_limit,
                    "images": 2 if each.is_pair else 1,
                }
            )
    return rows


def curve_rows(found: Sequence[Resolution]) -> list[dict[str, Any]]:
    """The curves: one row for each ring of each plane of each image."""
    return [
        {"image": each.layer, "plane": name, "cycles_per_px": float(frequency), "correlation": float(value)}
        for each in found
        for name, curve in zip(each.planes, each.curves, strict=True)
        for frequency, value in zip(curve.frequencies, curve.correlation, strict=True)
    ]


def record(requests: Sequence[ResolutionRequest]) -> dict[str, Any]:
    """What was measured and how, JSON-ready."""
    from napari_cellenhance.core.frc import THRESHOLD

    if not requests:
        raise ParameterError("there is no image to measure; name at least one")
    is_pair = requests[0].second is not None
    return {
        "measured": "resolution by Fourier ring correlation",
        **describe_layers(
            images=[request.image for request in requests],
            second=[request.second for request in requests if request.second is not None],
        ),
        "halves": "two images of one field" if is_pair else "two pairs of images of every second pixel (checkerboard)",
        "threshold": THRESHOLD,
        "pixel_um": [None if request.pixel_um is None else list(request.pixel_um) for request in requests],
        "notes": [] if is_pair else [FILTERED_NOTE],
    }
