"""The public Python calls for measuring: arrays in, a table out."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from napari_cellenhance.core.axes import guess_axes
from napari_cellenhance.core.errors import AxesError, ParameterError
from napari_cellenhance.core.line_profiles import PROMINENCE, distances_um
from napari_cellenhance.workflows import measure_pairs as pairs
from napari_cellenhance.workflows.measure import CompareRequest, MeasuredImage, compare, to_rows
from napari_cellenhance.workflows.measure_pair_tables import to_rows as pair_rows
from napari_cellenhance.workflows.profile_tables import comparison_rows, peak_rows
from napari_cellenhance.workflows.profiles import ProfiledImage, ProfileRequest, measure_profiles, placed

__all__ = ["compare_images", "line_profile", "measure_pair"]

_PAIR = pairs.PairOptions()


def compare_images(
    raw: Any,
    enhanced: Any,
    mask: Any = None,
    *,
    axes: str | None = None,
    objects_are_dark: bool = False,
    values: Literal["stored", "stretched"] = "stored",
) -> list[dict[str, Any]]:
    """Measure enhanced images against the raw one; the same numbers as the dock and the command line give.

    Parameters
    ----------
    raw : array-like of shape (…, Y, X)
        numpy, dask or zarr; never written to.
    enhanced : array-like, or mapping from str to array-like
        One version, or several under their names; of the shape of ``raw``.
    mask : array-like, optional
        Above 0 on objects; of the shape of ``raw``, or one plane for all. Default: Otsu's threshold of the raw image,
        with a warning.
    axes : str, optional
        Of ``raw`` and of whatever has its shape, out of ``TCZYX``. Default: guessed.
    objects_are_dark : bool
        Invert the raw image first.
    values : "stored" or "stretched"
        See :class:`napari_cellenhance.workflows.measure.CompareRequest`.

    Returns
    -------
    list of dict
        One row for each image and plane, then mean and standard deviation over the planes: contrast ratio, gain,
        fold, Michelson contrast, AUROC, Otsu IoU, and whether the floor of the denominator was hit.

    Warns
    -----
    UserWarning
        What a reader of the numbers must know, such as an automatic mask.

    Raises
    ------
    AxesError, ImageError
        Images that do not fit each other, or a mask without objects or ground.

    Examples
    --------
    >>> import numpy as np
    >>> raw = np.array([[10, 10, 10, 50], [10, 10, 50, 50]])
    >>> row = compare_images(raw, 4 * (raw - 9), mask=raw > 20)[1]
    >>> row["contrast_ratio"], row["fold"]
    (41.0, 8.2)
    """
    named = dict(enhanced) if isinstance(enhanced, Mapping) else {"enhanced": enhanced}
    first = _array(raw)
    letters = axes or _guessed(first)

    def image(name: str, pixels: Any, is_dark: bool = False) -> MeasuredImage:
        array = _array(pixels)
        own = letters if array.shape == first.shape else _guessed(array)
        return MeasuredImage(name=name, image=array, axes=own, objects_are_dark=is_dark)

    result = compare(
        CompareRequest(
            raw=image("raw", raw, objects_are_dark),
            enhanced=tuple(image(name, pixels) for name, pixels in named.items()),
            mask=None if mask is None else image("mask", mask),
            values=values,
        )
    )
    for note in result.notes:
        warnings.warn(note, UserWarning, stacklevel=2)
    return to_rows(result)


def measure_pair(
    result: Any,
    reference: Any,
    *,
    kind: pairs.Kind = _PAIR.kind,
    axes: str | None = None,
    data_range: float | None = _PAIR.data_range,
    min_iou: float | Sequence[float] = _PAIR.min_iou,
    ignore: int | None = _PAIR.ignore,
    match_within_px: float = _PAIR.match_within_px,
) -> dict[str, Any]:
    """Measure a result against a reference; the same numbers as the dock and the command line give.

    Parameters
    ----------
    result, reference : array-like of shape (…, Y, X), or for points (N, ndim)
        Of the same shape; never written to.
    kind : "images", "objects", "classes", "points", "boxes" or "hits"
        Grey values; labels with a number for each object; labels with a number for each class; coordinates; boxes
        around labelled objects; labels against coordinates (the reference) that lie in them.
    axes : str, optional
        Of both, out of ``TCZYX``. Default: guessed.
    data_range, min_iou, ignore, match_within_px
        See :class:`napari_cellenhance.workflows.measure_pairs.PairOptions`.

    Returns
    -------
    dict
        images: ``psnr_db``, ``affine_psnr_db``, ``ssim``, ``mae``, ``data_range``; objects: ``n_true``, ``n_found``,
        ``ap_50``, ``precision_50``, ``recall_50``, ``f1_50`` (and so on for each least overlap), ``seg``, ``iou``,
        ``dice``; classes: ``mean_iou``, ``mean_dice``, ``iou_0``, ``dice_0`` and so on; points, boxes and hits:
        ``n_true``, ``n_found``, ``precision``, ``recall``, ``f1``, of boxes also ``iou``. Planes of a stack are added
        up; ``n_planes`` is their number.

    Warns
    -----
    UserWarning
        What a reader of the numbers must know, such as grey values that are not on one scale.

    Raises
    ------
    AxesError, ImageError
        Images that do not fit each other, labels that are no whole numbers, a constant reference without
        ``data_range``.
    ParameterError
        A setting outside its range.

    Examples
    --------
    >>> import numpy as np
    >>> ramp = np.linspace(0, 1, 64 * 64).reshape(64, 64)
    >>> row = measure_pair(ramp + 0.1, ramp)
    >>> round(row["psnr_db"], 3), round(row["mae"], 3), round(row["ssim"], 5)
    (20.0, 0.1, 0.95297)
    """
    options = pairs.PairOptions(
        kind=kind,
        data_range=data_range,
        min_iou=tuple(min_iou) if isinstance(min_iou, Sequence) else (float(min_iou),),
        ignore=ignore,
        match_within_px=match_within_px,
    )
    found, true = _array(result), _array(reference)
    if kind == "points":
        score = pairs.measure_points("result", found, "reference", true, options)
    elif kind == "hits":
        labels = MeasuredImage(name="result", image=found, axes=axes or _guessed(found))
        score = pairs.measure_hits(labels, "reference", true, options)
    else:
        letters = axes or _guessed(true)
        own = letters if len(found.shape) == len(true.shape) else _guessed(found)
        score = pairs.measure_pair(
            pairs.PairRequest(
                result=MeasuredImage(name="result", image=found, axes=own),
                reference=MeasuredImage(name="reference", image=true, axes=letters),
                options=options,
            )
        )
    for note in score.notes:
        warnings.warn(note, UserWarning, stacklevel=2)
    (row,) = pair_rows([score], options)
    return {key: value for key, value in row.items() if key not in ("image", "reference")}


def line_profile(
    images: Mapping[str, Any],
    line: Sequence[Sequence[float]],
    *,
    width_px: int = 1,
    reference: str = "",
    pixel_size_um: float | Mapping[str, float] | None = None,
    offset: Mapping[str, Sequence[float]] | None = None,
    axes: str | None = None,
    plane: tuple[int, int, int] | None = None,
    prominence: float = PROMINENCE,
) -> dict[str, Any]:
    """Read grey values of images along one line; the same numbers as the dock and the command line give.

    Parameters
    ----------
    images : mapping from str to array-like of shape (…, Y, X)
        Under their names; numpy, dask or zarr, never written to.
    line : sequence of (float, float)
        Two or more points (y, x): in µm where pixel sizes are given, else in px.
    width_px : int
        Averaged across the line, in pixels of the image with the smallest ones, as all lengths in px.
    reference : str
        Name of the image that others are compared with; empty: none.
    pixel_size_um : float or mapping from str to float, optional
        Of all images, or of each.
    offset : mapping from str to (float, float), optional
        Where the centre of the first pixel of an image lies, in the units of ``line``. Default: (0, 0).
    axes : str, optional
        Of all images, out of ``TCZYX``. Default: guessed.
    plane : (t, c, z), optional
        Of stacks, from 0.
    prominence : float
        Least rise of a peak above its valleys, as a share of the range of its profile.

    Returns
    -------
    dict
        ``distance_px`` and ``distance_um``, ndarrays of shape (N,), the latter NaN without pixel sizes; ``values``,
        a dict from name to ndarray of shape (N,), NaN outside of the image; ``peaks``, one row for each peak;
        ``images``, one row for each image: peaks, median width, shift, width ratio, correlation, error after fit.

    Warns
    -----
    UserWarning
        What a reader of the numbers must know, such as a line that leaves an image.

    Raises
    ------
    AxesError, ImageError
        No plane of real numbers, or a line outside of all images.
    ParameterError
        A setting outside its range, or a pixel size or offset that is missing or of no image.

    Examples
    --------
    >>> import numpy as np
    >>> plane = np.zeros((3, 7))
    >>> plane[1] = 0, 0, 2, 4, 2, 0, 0
    >>> found = line_profile({"cells": plane}, [(1, 0), (1, 6)])
    >>> found["values"]["cells"].tolist(), found["peaks"][0]["fwhm_px"]
    ([0.0, 0.0, 2.0, 4.0, 2.0, 0.0, 0.0], 2.0)
    """
    arrays = {str(name): _array(pixels) for name, pixels in images.items()}
    sizes = pixel_size_um if isinstance(pixel_size_um, Mapping) else dict.fromkeys(arrays, pixel_size_um or 1.0)
    places = offset or {}
    for given, what in ((sizes, "pixel size"), (places, "offset")):
        if strange := [str(name) for name in given if name not in arrays]:
            raise ParameterError(f"{what} of {', '.join(strange)}; expected names of images: {', '.join(arrays)}")
    if missing := [name for name in arrays if name not in sizes]:
        raise ParameterError(f"no pixel size of {', '.join(missing)}; give one for each image")
    profiled = tuple(
        ProfiledImage(
            image=MeasuredImage(name=name, image=pixels, axes=axes or _guessed(pixels), at=plane),
            to_px=placed((sizes[name], sizes[name]), places.get(name, (0.0, 0.0))),
        )
        for name, pixels in arrays.items()
    )
    result = measure_profiles(
        ProfileRequest(
            images=profiled,
            line=tuple((float(y), float(x)) for y, x in line),
            width_px=width_px,
            reference=reference,
            um_per_unit=None if pixel_size_um is None else 1.0,
            prominence=prominence,
        )
    )
    for note in result.notes:
        warnings.warn(note, UserWarning, stacklevel=2)
    return {
        "distance_px": result.distance_px,
        "distance_um": distances_um(result.distance_px, result.pixel_um),
        "values": {each.name: each.values for each in result.profiles},
        "peaks": peak_rows(result),
        "images": comparison_rows(result),
    }


def _array(pixels: Any) -> Any:
    return pixels if hasattr(pixels, "shape") else np.asarray(pixels)


def _guessed(pixels: Any) -> str:
    guess = guess_axes(tuple(pixels.shape))
    if not guess.axes:
        raise AxesError(guess.note)
    return guess.axes
