"""The public Python calls for comparing: a figure of images before and after, their resolution, their numbers."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from napari_cellenhance.core.axes import guess_axes
from napari_cellenhance.core.errors import AxesError
from napari_cellenhance.workflows._measured import MeasuredImage
from napari_cellenhance.workflows.comparison_figure import FiguredImage, FigureRequest, draw
from napari_cellenhance.workflows.difference import How
from napari_cellenhance.workflows.resolution import FILTERED_NOTE, ResolutionRequest, measure

__all__ = ["comparison_figure", "resolution"]

Pixel = float | tuple[float, float] | None


def resolution(
    image: Any,
    second: Any = None,
    *,
    pixel_size_um: Pixel = None,
    axes: str | None = None,
) -> dict[str, Any]:
    """Tell the resolution of an image by Fourier ring correlation, threshold 1/7.

    Parameters
    ----------
    image : array-like of shape (…, Y, X)
        Sides of 64 px or more; never written to.
    second : array-like, optional
        The same field with noise of its own. Default: the halves of ``image`` (every second pixel, see
        :func:`napari_cellenhance.core.frc.one_image`).
    pixel_size_um : float or (float, float), optional
        Side, or height and width, which must be equal.
    axes : str, optional
        Out of ``TCZYX``. Default: guessed.

    Returns
    -------
    dict
        ``px`` and ``um`` (NaN without pixel size, or without structure), of a stack the median over its planes;
        ``at_limit``, number of planes that are as fine as can be told; ``n_planes``; ``frequencies`` (cycles per
        pixel) and ``correlation``, ndarrays of shape (n_planes, N).

    Warns
    -----
    UserWarning
        Of a single image: its noise must be independent from pixel to pixel.

    Raises
    ------
    AxesError, ImageError
        Small or constant planes, pixels that are no squares, images that do not fit each other.

    Examples
    --------
    >>> import numpy as np
    >>> field = np.random.default_rng(0).normal(size=(64, 64))
    >>> found = resolution(field, field, pixel_size_um=0.1)
    >>> found["px"], found["um"], found["at_limit"]
    (2.0, 0.2, 1)
    """
    pixel = _pixel(pixel_size_um)
    asked = ResolutionRequest(
        image=_measured("image", image, axes), pixel_um=pixel,
        second=None if second is None else _measured("second", second, axes),
    )  # fmt: skip
    found = measure(asked)
    if second is None:
        warnings.warn(FILTERED_NOTE, UserWarning, stacklevel=2)
    return {
        "px": found.resolution_px,
        "um": found.resolution_um,
        "at_limit": found.n_at_limit,
        "n_planes": len(found.curves),
        "frequencies": np.stack([curve.frequencies for curve in found.curves]),
        "correlation": np.stack([curve.correlation for curve in found.curves]),
    }


def comparison_figure(
    before: Any,
    after: Any,
    path: str | os.PathLike[str],
    *,
    pixel_size_um: Pixel = None,
    difference: How | None = "fitted",
    background: Literal["white", "black"] = "white",
    limits: Mapping[str, tuple[float, float]] | None = None,
    recipes: Mapping[str, Mapping[str, Any]] | None = None,
    axes: str | None = None,
    plane: tuple[int, int, int] | None = None,
    overwrite: bool = False,
) -> Path:
    """Draw images before and after beside each other, as the Compare dock and ``cellenhance figure`` do.

    Parameters
    ----------
    before : array-like of shape (…, Y, X)
    after : array-like, or mapping from str to array-like
        One image, or several under their names.
    path : path
        Ends in .png, .pdf or .svg; a JSON on what is shown goes beside it.
    pixel_size_um : float or (float, float), optional
        Side, or height and width, for the scale bar. Default: the bar is in pixels.
    difference : "fitted", "plain" or None
        See :class:`napari_cellenhance.workflows.difference.DifferenceRequest`.
    background : "white" or "black"
    limits : mapping, optional
        Name → grey values of black and white; "before" for the first image. Default: percentiles.
    recipes : mapping, optional
        Name → record of how the image was made, for the small print.
    axes : str, optional
        Of all images, out of ``TCZYX``. Default: guessed.
    plane : (t, c, z), optional
        Of stacks, from 0.
    overwrite : bool
        Replace files that are there.

    Returns
    -------
    Path
        The figure.

    Raises
    ------
    AxesError, ImageError, ParameterError
        Images that do not show the same plane, or a name with another ending.
    TargetExistsError, WriteError
        It cannot be written; existing files are unchanged.
    """
    named = dict(after) if isinstance(after, Mapping) else {"after": after}

    def shown(name: str, pixels: Any) -> FiguredImage:
        return FiguredImage(
            image=_measured(name, pixels, axes, plane), limits=(limits or {}).get(name),
            record=(recipes or {}).get(name),
        )  # fmt: skip

    request = FigureRequest(
        before=shown("before", before), after=tuple(shown(name, pixels) for name, pixels in named.items()),
        pixel_um=_pixel(pixel_size_um), difference=difference, background=background,
    )  # fmt: skip
    return draw(request, path, overwrite=overwrite)[0]


def _pixel(size: Pixel) -> tuple[float, float] | None:
    if size is None or isinstance(size, tuple):
        return size
    return float(size), float(size)


def _measured(name: str, pixels: Any, axes: str | None, at: tuple[int, int, int] | None = None) -> MeasuredImage:
    array = pixels if hasattr(pixels, "shape") else np.asarray(pixels)
    if axes is None:
        guess = guess_axes(tuple(array.shape))
        if not guess.axes:
            raise AxesError(f"“{name}”: {guess.note}")
        axes = guess.axes
    return MeasuredImage(name=name, image=array, axes=axes, at=at)
