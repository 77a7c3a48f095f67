"""TIFF through tifffile: OME, ImageJ and plain ones."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ImageError, WriteError
from napari_cellenhance.io import _ome

__all__ = ["end_of_pixels", "open_tiff", "read_tiff", "read_tiff_provenance", "write_ome_tiff"]

BIGTIFF_FROM_BYTES = 2**32 - 2**25
"""Classic TIFF ends at 4 GiB; 32 MiB are left for the directories and the XML."""

# What tifffile was seen to raise on damaged files (all cut and bit-flipped variants of the tests).
_DAMAGE = (
    tifffile.TiffFileError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)


def read_tiff(source: Path) -> dict[str, Any]:
    """Fields of ``ImageFile`` of the first image in a TIFF file."""
    with _opened(source) as tif:
        series, info, notes = _first_series(source, tif)
        image, axes = _named(series.asarray(), series, info.own_axes, notes)
        if _is_inverted(series):
            image = _inverted(image)
    if image.size == 0:
        raise ImageError(f"{source} holds an empty image (shape {image.shape}); it was not written completely")
    return {"image": image, "description": info.description, **_told(info, axes, notes)}


@contextmanager
def open_tiff(source: Path) -> Iterator[dict[str, Any]]:
    """Fields of ``LazyImage``; its levels as arguments of ``LazyPixels``. Open until the block ends."""
    with translated(source):
        tif = tifffile.TiffFile(source)
    with tif:
        with translated(source):
            fields = _lazy_fields(source, tif)
        yield fields  # what goes wrong from here on is not the file's fault alone


def _lazy_fields(source: Path, tif: tifffile.TiffFile) -> dict[str, Any]:
    import zarr

    series, info, notes = _first_series(source, tif)
    has_all_axes, order, axes = _layout(series, info.own_axes, notes)
    invert = _inverted if _is_inverted(series) else None
    levels = []
    for level in (_with_all_axes(series) if has_all_axes else series).levels:
        is_old = hasattr(level, "get_shape")
        if level.dataoffset is None:
            store = level.aszarr(squeeze=not has_all_axes) if is_old else level.aszarr()
            stored: Any = zarr.open(store, mode="r")
        else:  # a single piece, of which a chunk would be a whole plane
            shape = tuple(level.get_shape(squeeze=not has_all_axes) if is_old else level.shape)
            stored = np.memmap(source, tif.byteorder + level.dtype.char, "r", level.dataoffset, shape)
        levels.append((stored, order, invert))
    return {"levels": levels, **_told(info, axes, notes)}


def _first_series(source: Path, tif: tifffile.TiffFile) -> tuple[tifffile.TiffPageSeries, _ome.OmeInfo, list[str]]:
    """The first image, what is said about it, and notes on what is odd."""
    if not tif.series:
        raise ImageError(f"{source} holds no image")
    series = tif.series[0]
    _refuse_cut_off(source, series)
    info, notes = _metadata(tif)
    if len(tif.series) > 1 or info.n_images > 1:
        notes.append(f"The file holds {max(len(tif.series), info.n_images)} images; the first one was read.")
    if _is_inverted(series):
        notes.append("The file says that 0 is white; the values were inverted.")
    if series.keyframe.photometric == tifffile.PHOTOMETRIC.PALETTE:
        notes.append("The file has a colour table; the index numbers were read.")
    return series, info, notes


def _told(info: _ome.OmeInfo, axes: str, notes: Sequence[str]) -> dict[str, Any]:
    """Fields that an image in memory and one on disk have in common."""
    return {
        "axes": axes,
        "pixel_size_um": {letter: size for letter, size in info.pixel_size_um.items() if letter in axes},
        "channel_names": info.channel_names if "C" in axes else (),
        "notes": tuple(notes),
        "provenance": info.provenance,
    }


def _is_inverted(series: tifffile.TiffPageSeries) -> bool:
    is_white = series.keyframe.photometric == tifffile.PHOTOMETRIC.MINISWHITE
    return bool(is_white and series.dtype.kind == "u")


def _inverted(pixels: NDArray[Any]) -> NDArray[Any]:
    inverted: NDArray[Any] = np.iinfo(pixels.dtype).max - pixels
    return inverted


def read_tiff_provenance(source: Path) -> dict[str, Any] | None:
    """Provenance in the OME-XML of this project, or None."""
    with _opened(source) as tif:
        return _metadata(tif)[0].provenance


def write_ome_tiff(
    temporary: Path,
    image: NDArray[Any],
    axes: str,
    *,
    original_axes: str,
    name: str,
    pixel_size_um: Mapping[str, float],
    channel_names: Sequence[str],
    provenance: Mapping[str, Any] | None,
    mapping: str,
) -> None:
    """Write pixels whose axes end in YX or YXS, and open the result again to check it.

    Raises
    ------
    WriteError
        The written file does not hold what was given.
    """
    metadata = _ome.metadata_for(
        axes,
        original_axes,
        name=name,
        pixel_size_um=pixel_size_um,
        channel_names=channel_names,
        provenance=provenance,
        description=f"Written by napari-cellenhance. Pixel values: {mapping}.",
        mapping=mapping,
    )
    is_colour = axes.endswith("S")
    tifffile.imwrite(
        temporary,
        image,
        ome=True,
        bigtiff=image.nbytes >= BIGTIFF_FROM_BYTES,
        photometric="rgb" if is_colour else "minisblack",
        extrasamples=["unassalpha"] if is_colour and image.shape[-1] == 4 else None,
        metadata=metadata,
    )
    if not _is_whole(temporary, image, original_axes):
        raise WriteError(f"{name} was not written completely (the disk may be full). Nothing was changed.")


def _is_whole(path: Path, image: NDArray[Any], original_axes: str) -> bool:
    try:
        with tifffile.TiffFile(path) as tif:
            stored, xml = tif.series[0], tif.ome_metadata or ""
            is_same = stored.size == image.size and stored.dtype == image.dtype
            # tifffile puts the pixels before or after the XML, so each end has to be looked at.
            is_long_enough = end_of_pixels(stored) <= path.stat().st_size
            return is_same and is_long_enough and _ome.parse(xml).own_axes == original_axes
    except _DAMAGE:
        return False


@contextmanager
def _opened(source: Path) -> Iterator[tifffile.TiffFile]:
    with translated(source), tifffile.TiffFile(source) as tif:
        yield tif


@contextmanager
def translated(source: Path) -> Iterator[None]:
    """Say in a sentence what tifffile finds wrong with a file."""
    try:
        yield
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError(f"{source} does not fit into memory: {error}") from error
    except _DAMAGE as error:
        if "imagecodecs" in str(error):
            raise ImageError(
                f"{source} is compressed in a way that needs the package imagecodecs ({error}). "
                "Run 'pip install imagecodecs', or save the file uncompressed."
            ) from error
        raise ImageError(f"{source} is not a readable TIFF file, or it is damaged: {error}") from error


def end_of_pixels(series: tifffile.TiffPageSeries) -> int:
    """Where in the file the last pixel ends, in bytes."""
    ends = (
        offset + count
        for page in series.pages
        if page is not None
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False)
    )
    return max(ends, default=0)


def _refuse_cut_off(source: Path, series: tifffile.TiffPageSeries) -> None:
    # tifffile fills missing pixels with zeros in some of these cases; a wrong image is worse than none.
    n_bytes = source.stat().st_size
    if end_of_pixels(series) > n_bytes:
        raise ImageError(f"{source} is cut off: it has {n_bytes} of {end_of_pixels(series)} bytes. Copy it again.")


def _metadata(tif: tifffile.TiffFile) -> tuple[_ome.OmeInfo, list[str]]:
    if tif.is_ome and tif.ome_metadata:
        try:
            return _ome.parse(tif.ome_metadata), []
        except ValueError as error:
            return _ome.OmeInfo(), [f"Axes and pixel size may be wrong: {error}."]
    if tif.is_imagej and tif.imagej_metadata:
        sizes = _imagej_sizes(tif.imagej_metadata, tif.pages.first)
        return _ome.OmeInfo(pixel_size_um=sizes, description=str(tif.imagej_metadata.get("Info", ""))), []
    return _ome.OmeInfo(description=tif.pages.first.description), []


def _imagej_sizes(metadata: Mapping[str, Any], page: tifffile.TiffPage) -> dict[str, float]:
    factor = _ome.unit_in_um(str(metadata.get("unit", "")))
    sizes: dict[str, float] = {}
    if factor is not None:
        for letter in "YX":
            tag = page.tags.get(f"{letter}Resolution")
            numerator, denominator = tag.value if tag is not None else (0, 0)
            if numerator and denominator:
                sizes[letter] = factor * denominator / numerator
        _keep_positive(sizes, "Z", metadata.get("spacing"), factor)
    _keep_positive(sizes, "T", metadata.get("finterval"), 1.0)
    return sizes


def _keep_positive(sizes: dict[str, float], letter: str, value: Any, factor: float) -> None:
    if isinstance(value, (int, float)) and np.isfinite(value) and value != 0:
        sizes[letter] = abs(float(value)) * factor


def _named(
    image: NDArray[Any], series: tifffile.TiffPageSeries, own_axes: str, notes: list[str]
) -> tuple[NDArray[Any], str]:
    has_all_axes, order, axes = _layout(series, own_axes, notes)
    if has_all_axes:
        image = image.reshape(_all_axes(series)[1])
    kept = sorted(order)
    image = image[tuple(slice(None) if i in kept else 0 for i in range(image.ndim))]
    return image.transpose([kept.index(i) for i in order]), axes


def _with_all_axes(series: Any) -> Any:
    """The first image with its dimensions of length 1; since tifffile 2026.5.2 that is a series of its own."""
    return series if hasattr(series, "get_axes") else series.parent.series(squeeze=False)[0]


def _all_axes(series: Any) -> tuple[str, tuple[int, ...]]:
    """Axes and lengths of an image, those of length 1 too."""
    if hasattr(series, "get_axes"):  # tifffile before 2026.5.2
        return series.get_axes(squeeze=False), series.get_shape(squeeze=False)
    full = _with_all_axes(series)
    return full.axes, full.shape


def _layout(series: tifffile.TiffPageSeries, own_axes: str, notes: list[str]) -> tuple[bool, list[int], str]:
    """Whether dimensions of length 1 are counted, which dimension each axis is, and the letters of the axes."""
    full_axes, full_shape = _all_axes(series)
    lengths = dict(zip(full_axes, full_shape, strict=True))
    others_are_one = all(n == 1 for letter, n in lengths.items() if letter not in own_axes)
    if own_axes and len(set(own_axes)) == len(own_axes) and set(own_axes) <= set(full_axes) and others_are_one:
        return True, [full_axes.index(letter) for letter in own_axes], own_axes
    return (False, *_house_axes(series.shape, series.axes, notes))


def _house_axes(shape: Sequence[int], axes: str, notes: list[str]) -> tuple[list[int], str]:
    """Axes of tifffile → letters of TCZYX, S last; letters that are not ours become free ones of ours."""
    letters, order = list(axes), list(range(len(axes)))
    if "S" in letters and shape[letters.index("S")] not in (3, 4):
        letters[letters.index("S")] = "?" if "C" in letters else "C"
    if letters.count("Y") != 1 or letters.count("X") != 1:
        raise ImageError(f"the file holds data with the axes {axes!r}; expected an image with Y and X")
    for i, letter in enumerate(letters):
        if letter not in "TCZYXS":
            free = [candidate for candidate in "ZTC" if candidate not in letters]
            if not free:
                raise ImageError(f"the file has the axes {axes!r}; expected at most T, C, Z, Y, X and colour")
            letters[i] = free[0]
            notes.append(f"The file does not tell what its axis {i + 1} (length {shape[i]}) is; {free[0]} was taken.")
    if "S" in letters:
        position = letters.index("S")
        order.append(order.pop(position))
        letters.append(letters.pop(position))
    return order, "".join(letters)
