"""Values of an image → values a file can hold, by one stated rule."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ImageError, ParameterError

__all__ = ["StoredDtype", "convert"]

StoredDtype = Literal["float32", "uint8", "uint16", "keep"]

_KEEP_DIRECTLY = ("uint8", "uint16", "uint32", "int8", "int16", "int32", "float32", "float64")
_EXACT_IN_FLOAT32 = 2**24


def convert(image: NDArray[Any], dtype: StoredDtype = "float32") -> tuple[NDArray[Any], str]:
    """Convert pixels for storing.

    Parameters
    ----------
    image : ndarray
        bool, any integer or any real float. Never written to.
    dtype : "float32", "uint8", "uint16" or "keep"

        * ``float32``: same values. Integers beyond ±2²⁴ would be rounded and are refused, as
          are floats beyond float32.
        * ``uint8``, ``uint16``: floats in [0, 1] (enhanced images) become 0…255 or
          0…65535, rounded and clipped; NaN becomes 0. bool becomes 0 and the maximum. Integers keep their values, and
          are refused where they do not fit.
        * ``keep``: same values in a type that TIFF readers know: float16 → float32,
          longdouble → float64, bool → uint8 (0, 1), (u)int64 → the smallest 8- to 32-bit
          integer that holds all values, else float64 if exact.

    Returns
    -------
    ndarray
        Native byte order, C-contiguous.
    str
        The rule that was applied, for the file's description.

    Raises
    ------
    ImageError
        Empty, complex, object or text pixels, or values that do not fit.
    ParameterError
        ``dtype`` is none of the above.
    """
    if dtype not in get_args(StoredDtype):
        raise ParameterError(f"pixel type is {dtype!r}; expected one of {', '.join(get_args(StoredDtype))}")
    if image.dtype.kind not in "buif":
        raise ImageError(f"the image holds {image.dtype} values; expected real numbers")
    if image.size == 0:
        raise ImageError(f"the image is empty (shape {image.shape}); there is nothing to write")
    native = image.astype(image.dtype.newbyteorder("="), copy=False)
    if dtype == "keep":
        stored, rule = _keep(native)
    elif dtype == "float32":
        stored, rule = _to_float32(native)
    else:
        stored, rule = _to_integers(native, np.dtype(dtype))
    return np.ascontiguousarray(stored).reshape(image.shape), rule


def _keep(image: NDArray[Any]) -> tuple[NDArray[Any], str]:
    if image.dtype.name in _KEEP_DIRECTLY:
        return image, "values unchanged"
    if image.dtype.kind == "b":
        return image.astype(np.uint8), "false and true stored as 0 and 1"
    if image.dtype.kind == "f":
        wider = np.float32 if image.dtype.itemsize < 4 else np.float64
        return image.astype(wider), f"{image.dtype} stored as {np.dtype(wider)}"
    low, high = int(image.min()), int(image.max())
    for name in _KEEP_DIRECTLY[:6]:
        limits = np.iinfo(name)
        if limits.min <= low and high <= limits.max:
            return image.astype(name), f"{image.dtype} stored as {name}, values unchanged"
    if max(-low, high) <= 2**53:
        return image.astype(np.float64), f"{image.dtype} stored as float64, values unchanged"
    raise ImageError(f"the image holds integers from {low} to {high}; a TIFF file cannot hold them exactly")


def _to_float32(image: NDArray[Any]) -> tuple[NDArray[Any], str]:
    if image.dtype.kind in "ui" and max(-int(image.min()), int(image.max())) > _EXACT_IN_FLOAT32:
        raise ImageError(
            f"the image holds integers up to {int(image.max())}, which 32-bit floats would round; "
            "choose to keep the pixel type"
        )
    with np.errstate(over="ignore"):
        stored = image.astype(np.float32)
    if image.dtype.kind == "f" and image.dtype.itemsize > 4 and bool((np.isinf(stored) & np.isfinite(image)).any()):
        raise ImageError("the image holds values beyond ±3.4e38, the range of 32-bit floats; choose to keep them")
    return stored, "values unchanged" if image.dtype == np.float32 else f"{image.dtype} stored as float32"


def _to_integers(image: NDArray[Any], dtype: np.dtype[Any]) -> tuple[NDArray[Any], str]:
    top = int(np.iinfo(dtype).max)
    if image.dtype.kind == "b":
        return image.astype(dtype) * dtype.type(top), f"false and true stored as 0 and {top}"
    if image.dtype.kind in "ui":
        low, high = int(image.min()), int(image.max())
        if low < 0 or high > top:
            raise ImageError(f"the image holds integers from {low} to {high}; {dtype} holds 0 to {top} only")
        return image.astype(dtype), "values unchanged"
    # float64: float32 cannot count to 65535 in steps of half a unit after scaling without rounding twice.
    scaled = np.nan_to_num(image.astype(np.float64), nan=0.0, posinf=1.0, neginf=0.0).clip(0.0, 1.0) * top
    return np.rint(scaled).astype(dtype), f"0…1 stored as 0…{top}, rounded and clipped"
