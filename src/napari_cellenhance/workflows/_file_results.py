"""One file as a job for a workflow of arrays, and its results as files that keep what is known of the original."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ParameterError

if TYPE_CHECKING:
    from napari_cellenhance.io.images import ImageFile

__all__ = ["as_dtype", "channel_names", "check_dtype", "job_for", "write_result"]

AnySettings = TypeVar("AnySettings")


def check_dtype(dtype: str) -> None:
    """Refuse pixel types that no result of float has.

    Raises
    ------
    ParameterError
        Neither "float32" nor "same".
    """
    if dtype not in ("float32", "same"):
        raise ParameterError(f"pixel type is {dtype!r}; expected 'float32' or 'same'")


def as_dtype(image: NDArray[np.float32], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Round to whole numbers and cut off what the type cannot hold; real types and booleans become float32."""
    if dtype.kind not in "ui":
        return image
    limits = np.iinfo(dtype)
    # The largest float below the limit, where the limit itself is none.
    high = limits.max if float(limits.max) == limits.max else np.nextafter(np.float64(limits.max), 0.0)
    return np.clip(np.rint(image.astype(np.float64)), limits.min, high).astype(dtype)


def job_for(settings: AnySettings, file: ImageFile, source: Path) -> AnySettings:
    """The settings with the pixels, axes (unless they were given), pixel size, name and history of a file."""
    unfilled: Any = settings
    job: AnySettings = replace(
        unfilled, image=file.image, axes=unfilled.axes or file.axes, source_name=source.name,
        pixel_size_um=file.pixel_size_um, earlier=file.provenance,
    )  # fmt: skip
    return job


def channel_names(file: ImageFile, channels: str | tuple[int, ...], axes: str) -> tuple[str, ...]:
    """Names of the channels that a result with these axes still has."""
    if not file.channel_names or "C" not in axes:
        return ()
    if isinstance(channels, str):
        return file.channel_names
    return tuple(file.channel_names[channel] for channel in channels)


def write_result(
    path: Path,
    pixels: NDArray[Any],
    axes: str,
    file: ImageFile,
    provenance: dict[str, Any],
    *,
    overwrite: bool,
    dtype: Literal["float32", "same", "uint8", "uint16"] = "float32",
    channel_names: Sequence[str] = (),
) -> None:
    """Write pixels with the pixel sizes of the file they were made from, for the axes they still have.

    Parameters
    ----------
    dtype : "float32", "same", "uint8" or "uint16"
        "same" rounds to the pixel type of the file; "uint8" and "uint16" hold 0…1 as 0…maximum; else the pixels are
        written as they are.

    Raises
    ------
    WriteError, TargetExistsError
        As ``io.images.write``.
    """
    from napari_cellenhance.io.images import write

    write(
        path, as_dtype(pixels, file.image.dtype) if dtype == "same" else pixels, axes,
        pixel_size_um={axis: size for axis, size in file.pixel_size_um.items() if axis in axes},
        channel_names=channel_names, provenance=provenance, overwrite=overwrite,
        dtype=dtype if dtype in ("uint8", "uint16") else "keep",
    )  # fmt: skip
