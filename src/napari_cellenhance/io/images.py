"""Read and write images with their axes, pixel size, channel names and provenance.

Axes are letters of ``TCZYX`` plus ``S`` for the samples of a colour image, which is always last.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.axes import check_axes
from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.io.pixels import StoredDtype, convert
from napari_cellenhance.io.safe_write import atomic_path, safe_name

__all__ = [
    "READABLE_SUFFIXES",
    "TIFF_MAGIC",
    "ImageFile",
    "StoredDtype",
    "read",
    "read_provenance",
    "safe_name",
    "write",
]

READABLE_SUFFIXES = (".tif", ".tiff", ".png")
TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""First bytes of a TIFF file."""
_PNG_MAGIC = b"\x89PNG"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFile:
    """An image as it was in a file.

    Parameters
    ----------
    image : ndarray
        Values as stored.
    axes : str
        One letter per dimension.
    pixel_size_um : dict
        Axis letter → size in µm (``T``: s); an axis whose size the file does not tell is absent.
    channel_names : tuple of str
        Empty if the file names none.
    description : str
        Free text of the file.
    notes : tuple of str
        Sentences on what had to be guessed or left out in reading.
    provenance : dict or None
        What :func:`write` was given; None for files of other programs.
    """

    image: NDArray[Any]
    axes: str
    pixel_size_um: dict[str, float] = field(default_factory=dict)
    channel_names: tuple[str, ...] = ()
    description: str = ""
    notes: tuple[str, ...] = ()
    provenance: dict[str, Any] | None = None


def read(path: str | os.PathLike[str]) -> ImageFile:
    """Read a TIFF, OME-TIFF, ImageJ TIFF or PNG file; the kind is told by its first bytes.

    Pixel sizes come from OME or ImageJ metadata. The resolution tag of a plain TIFF or PNG is
    ignored: it speaks of printing (72 dpi), not of the microscope. Of a file with several
    images or pyramid levels the first, full-size one is read.

    Raises
    ------
    ImageError
        Neither TIFF nor PNG, damaged, cut off, or in a compression that cannot be decoded.
    OSError
        No such file, or no permission.
    """
    source = Path(path)
    magic = _magic(source)
    if magic in TIFF_MAGIC:
        from napari_cellenhance.io._tiff import read_tiff

        return ImageFile(**read_tiff(source))
    if magic == _PNG_MAGIC:
        from napari_cellenhance.io._png import read_png

        return ImageFile(**read_png(source))
    raise ImageError(f"{source} is neither a TIFF nor a PNG file; convert it (for example with Fiji) and try again")


def read_provenance(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Recipe stored by :func:`write`, without reading the pixels; None if the file has none.

    Raises
    ------
    ImageError, OSError
        As for :func:`read`.
    """
    source = Path(path)
    magic = _magic(source)
    if magic in TIFF_MAGIC:
        from napari_cellenhance.io._tiff import read_tiff_provenance

        return read_tiff_provenance(source)
    if magic == _PNG_MAGIC:
        from napari_cellenhance.io._png import read_png_provenance

        return read_png_provenance(source)
    raise ImageError(f"{source} is neither a TIFF nor a PNG file")


def write(
    path: str | os.PathLike[str],
    image: Any,
    axes: str,
    *,
    pixel_size_um: Mapping[str, float] | None = None,
    channel_names: Sequence[str] = (),
    provenance: Mapping[str, Any] | None = None,
    dtype: StoredDtype = "float32",
    overwrite: bool = False,
) -> Path:
    """Write an OME-TIFF (``.tif``, ``.tiff``) or, for a single plane, a PNG.

    The file appears whole or not at all, and is opened again before it takes its place.

    Parameters
    ----------
    path : str or path-like
        The suffix decides the kind; the folder must exist.
    image : array-like
        Any real dtype. Never written to.
    axes : str
        One letter of ``TCZYX`` or ``S`` per dimension, in any order. OME wants Y, X (and S) last:
        pixels are stored like that, the order given here is noted, and :func:`read` restores it,
        length-1 axes included. Other programs see the stored order.
    pixel_size_um : mapping or None
        Axis letter → µm (``T``: s). A negative size (a flipped layer) is stored as its absolute
        value; zero and non-finite ones are left out.
    channel_names : sequence of str
        One per channel, or empty.
    provenance : mapping or None
        JSON-ready; read back by :func:`read_provenance` (NaN comes back as None).
    dtype : "float32", "uint8", "uint16" or "keep"
        Rule of :func:`napari_cellenhance.io.pixels.convert`. PNG holds no floats: there
        ``float32`` stands for ``uint8`` where the image is float, for ``keep`` where it is not.
    overwrite : bool
        Allow replacing an existing file.

    Returns
    -------
    Path
        Where the file is.

    Raises
    ------
    TargetExistsError
        There is a file and ``overwrite`` is False.
    WriteError
        Disk full, no permission, path too long…; an existing file is unchanged.
    ImageError, AxesError, ParameterError
        The image, the axes or a setting do not fit the format; nothing was written.
    """
    target = Path(path)
    pixels = np.asarray(image)
    letters = check_axes(axes, pixels.shape)
    names = _checked_names(channel_names, pixels.shape, letters)
    stored, stored_axes = _yx_last(pixels, letters)
    suffix = target.suffix.lower()
    if suffix not in READABLE_SUFFIXES:
        raise ParameterError(f"cannot write {target.name!r}; expected a name ending in {', '.join(READABLE_SUFFIXES)}")
    sizes = dict(pixel_size_um or {})
    if suffix == ".png":
        from napari_cellenhance.io._png import convert_for_png, write_png

        stored, mapping = convert_for_png(stored, stored_axes, dtype)
        with atomic_path(target, overwrite=overwrite) as temporary:
            write_png(temporary, stored, mapping=mapping, pixel_size_um=sizes, provenance=provenance)
        return target
    from napari_cellenhance.io._tiff import write_ome_tiff

    stored, mapping = convert(stored, dtype)
    with atomic_path(target, overwrite=overwrite) as temporary:
        write_ome_tiff(
            temporary,
            stored,
            stored_axes,
            original_axes=letters,
            name=target.name,
            pixel_size_um=sizes,
            channel_names=names,
            provenance=provenance,
            mapping=mapping,
        )
    return target


def _magic(source: Path) -> bytes:
    with open(source, "rb") as stream:
        return stream.read(4)


def _checked_names(names: Sequence[str], shape: tuple[int, ...], axes: str) -> tuple[str, ...]:
    n_channels = shape[axes.index("C")] if "C" in axes else 1
    if names and len(names) != n_channels:
        raise ParameterError(f"got {len(names)} channel names for {n_channels} channels; expected one each, or none")
    return tuple(names)


def _yx_last(image: NDArray[Any], axes: str) -> tuple[NDArray[Any], str]:
    if "S" in axes and image.shape[axes.index("S")] not in (3, 4):
        raise ImageError(
            f"the S axis has length {image.shape[axes.index('S')]}; expected 3 (RGB) or 4 (RGBA). "
            "Call it C to store separate channels."
        )
    missing = [letter for letter in "YX" if letter not in axes]
    if missing:
        raise ImageError(f"the axes {axes!r} lack {' and '.join(missing)}; expected an image with Y and X")
    stored = "".join(letter for letter in axes if letter in "TCZ") + "YX" + ("S" if "S" in axes else "")
    return image.transpose([axes.index(letter) for letter in stored]), stored
