"""A figure of one plane before and after, and of the difference, ready for a paper or a talk."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ParameterError, TargetExistsError
from napari_cellenhance.io.comparison_figures import Background, Panel, check_suffix, write_comparison
from napari_cellenhance.workflows._measured import MeasuredImage, OpenedLayer, check_alike, open_layer, plane_name
from napari_cellenhance.workflows.difference import How, formula, limit_of
from napari_cellenhance.workflows.measure import describe_layers

__all__ = ["FigureRequest", "FiguredImage", "draw", "read_figured", "recipe_line"]

_STRETCH = (0.1, 99.9)
Window = tuple[slice, slice]


@dataclass(frozen=True, slots=True, kw_only=True)
class FiguredImage:
    """An image as it shall be shown.

    Parameters
    ----------
    image : MeasuredImage
        One plane, or a stack with ``at``.
    limits : (float, float) or None
        Grey values of black and white; None: percentiles 0.1 and 99.9 of the plane, or 0 and 1 of real numbers that
        lie within.
    colors : ndarray of shape (N, 3 or 4) or None
        None: grey.
    record : mapping or None
        How the image was made; None: not by this program.
    """

    image: MeasuredImage
    limits: tuple[float, float] | None = None
    colors: NDArray[Any] | None = None
    record: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureRequest:
    """What to draw.

    Parameters
    ----------
    before : FiguredImage
    after : tuple of FiguredImage
    pixel_um : (float, float) or None
        Height and width of a pixel; None: not known, and the bar is in pixels.
    difference : "fitted", "plain" or None
        A panel for each image after, see :class:`napari_cellenhance.workflows.difference.DifferenceRequest`; what is
        drawn is fitted. None: no such panel.
    window : (slice, slice) or None
        Rows and columns to show; None: all.
    background : "white" or "black"
    """

    before: FiguredImage
    after: tuple[FiguredImage, ...]
    pixel_um: tuple[float, float] | None = None
    difference: How | None = "fitted"
    window: Window | None = None
    background: Background = "white"

    def __post_init__(self) -> None:
        if not self.after:
            raise ParameterError("there is nothing to compare with; choose at least one image after")
        if self.background not in ("white", "black"):
            raise ParameterError(f"the background is {self.background!r}; expected white or black")
        if self.difference not in ("fitted", "plain", None):
            raise ParameterError(f"the difference is {self.difference!r}; expected fitted, plain or none")


def recipe_line(name: str, record: Mapping[str, Any] | None) -> str:
    """Say in one line how an image was made.

    >>> recipe_line("cells enhanced", {"title": "NU-Net", "version": "1.2", "strength": 8.0, "sha256": "ab" * 32})
    'cells enhanced: NU-Net 1.2, strength 8, weights abababab'
    >>> recipe_line("cells", None)
    'cells: as acquired, or by another program'
    """
    if not record:
        return f"{name}: as acquired, or by another program"
    title = str(record.get("title") or record.get("filter") or record.get("model") or record.get("step") or "")
    parts = [" ".join(filter(None, (title, str(record.get("version") or ""))))]
    if isinstance(record.get("strength"), int | float):
        parts.append(f"strength {record['strength']:g}")
    if record.get("strength_map"):
        parts.append("strength by region")
    if record.get("sha256"):
        parts.append(f"weights {str(record['sha256'])[:8]}")
    versions = record.get("versions")
    if isinstance(versions, Mapping) and versions.get("napari-cellenhance"):
        parts.append(f"napari-cellenhance {versions['napari-cellenhance']}")
    earlier = record.get("earlier")
    before = f"; before that {recipe_line('', earlier)[2:]}" if isinstance(earlier, Mapping) and earlier else ""
    return f"{name}: {', '.join(filter(None, parts))}{before}"


def draw(request: FigureRequest, path: str | os.PathLike[str], *, overwrite: bool = True) -> tuple[Path, ...]:
    """Write the figure, and ``<path>.json`` on what it shows.

    Returns
    -------
    tuple of Path
        Figure and record.

    Raises
    ------
    AxesError, ImageError
        Images that do not show the same plane, or stacks without ``at``.
    ParameterError
        A name that ends neither in .png nor .pdf nor .svg.
    TargetExistsError, WriteError
        It cannot be written; existing files are unchanged.
    """
    from napari_cellenhance.io.json_ready import json_ready
    from napari_cellenhance.io.reports import write_json

    target = Path(path)
    beside = target.with_name(f"{target.name}.json")
    check_suffix(target)
    for file in (target, beside):
        if file.exists() and not overwrite:
            raise TargetExistsError(f"{file} exists already; choose another name, or allow overwriting")
    shown = (request.before, *request.after)
    layers = [open_layer(each.image) for each in shown]
    check_alike(layers[0], layers[1:])
    if len(layers[0].planes) != 1:
        raise ParameterError(
            f"“{layers[0].name}” is a stack of {len(layers[0].planes)} planes; say which one to draw (--plane T,C,Z)"
        )
    planes = [_plane(layer, request.window) for layer in layers]
    panels = [_panel(each, layer, plane) for each, layer, plane in zip(shown, layers, planes, strict=True)]
    stated = []
    for layer, plane in zip(layers[1:], planes[1:], strict=True) if request.difference else ():
        panel, text = _difference(planes[0], plane, request.difference or "plain", layer.name, len(request.after) > 1)
        panels.append(panel)
        stated.append(text)
    lines = _small_print(shown, layers[0], stated, request)
    record = {
        "step": "figure",
        **describe_layers(before=request.before.image, after=[each.image for each in request.after]),
        "records": [None if each.record is None else dict(each.record) for each in shown],
        "contrast_limits": [list(panel.limits) for panel in panels],
        "difference": stated,
        "window": None if request.window is None else [[part.start, part.stop] for part in request.window],
        "pixel_um": None if request.pixel_um is None else list(request.pixel_um),
        "small_print": lines,
    }
    written = write_json(beside, json_ready(record), overwrite=overwrite)  # where there is a figure there is its record
    write_comparison(
        target, panels, pixel_um=request.pixel_um, small_print=lines, background=request.background,
        overwrite=overwrite,
    )  # fmt: skip
    return target, written


def _plane(layer: OpenedLayer, window: Window | None) -> NDArray[Any]:
    plane = layer.stored(0)
    return plane if window is None else plane[window]


def _panel(each: FiguredImage, layer: OpenedLayer, plane: NDArray[Any]) -> Panel:
    limits = each.limits or _limits(plane)
    return Panel(
        title=layer.name, plane=plane, limits=limits, colors=each.colors, note=f"{limits[0]:.4g} … {limits[1]:.4g}"
    )


def _limits(plane: NDArray[Any]) -> tuple[float, float]:
    from napari_cellenhance.core.normalize import percentiles

    values = np.asarray(plane, np.float64)
    values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    if plane.dtype.kind == "f" and low >= 0.0 and high <= 1.0:
        return 0.0, 1.0
    p_low, p_high = percentiles(values, _STRETCH)
    return (p_low, p_high) if p_high > p_low else (low, high if high > low else low + 1.0)


def _difference(
    before: NDArray[Any], after: NDArray[Any], how: How, name: str, is_one_of_several: bool
) -> tuple[Panel, str]:
    from napari_cellenhance.core.affine_fit import PairMoments

    x, y = np.asarray(after, np.float64), np.asarray(before, np.float64)
    slope, offset = 1.0, 0.0
    if how == "fitted":
        moments, is_good = PairMoments(), np.isfinite(x) & np.isfinite(y)
        moments.add(x[is_good], y[is_good])
        slope, offset = moments.slope, moments.offset
    pixels = (slope * x + offset - y).astype(np.float32)
    limit, text = limit_of(pixels), formula(slope, offset, how)
    title = f"difference, {name}" if is_one_of_several else "difference"
    panel = Panel(title=title, plane=pixels, limits=(-limit, limit), note=f"± {limit:.4g}", is_difference=True)
    return panel, f"{title}: {text}"


def _small_print(
    shown: Sequence[FiguredImage], first: OpenedLayer, stated: Sequence[str], request: FigureRequest
) -> list[str]:
    lines = [recipe_line(each.image.name, each.record) for each in shown]
    where = plane_name(first.planes[0], first.pixels.shape[:3])
    if where:
        lines.append(f"Plane {where}, counted from 0.")
    if stated:
        lines.append(". ".join(stated) + "; green where the image after is brighter, purple where it is darker.")
    lines.append(
        "Numbers under the images: grey values of black and white (first and last colour). Enhanced intensities are "
        "not quantitative."
        if any(each.record for each in request.after)
        else "Numbers under the images: grey values of black and white (first and last colour)."
    )
    return lines


def read_figured(
    path: str | os.PathLike[str], *, axes: str = "", plane: tuple[int, int, int] | None = None
) -> tuple[FiguredImage, tuple[float, float] | None]:
    """Read an image from a file, with its recipe and the size of its pixels (Y, X), if the file tells it.

    Raises
    ------
    ImageError, OSError
        As for :func:`napari_cellenhance.io.images.read`.
    """
    from napari_cellenhance.io.images import read

    file = read(path)
    image = MeasuredImage(name=Path(path).name, image=file.image, axes=axes or file.axes, at=plane)
    sizes = file.pixel_size_um
    pixel_um = (sizes["Y"], sizes["X"]) if "Y" in sizes and "X" in sizes else None
    return FiguredImage(image=image, record=file.provenance), pixel_um
