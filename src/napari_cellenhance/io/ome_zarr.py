"""OME-Zarr 0.4 and 0.5: open one lazily, make a new one to be filled chunk by chunk.

Notes
-----
The arrays are zarr's; only the few lines of metadata of the specification (ngff.openmicroscopy.org,
0.4 and 0.5) are made and read here. The library ome-zarr does the same, but asks for an older
pydantic than napari's and for clients of cloud storage; see docs/scale.md.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.io.json_ready import json_ready
from napari_cellenhance.io.lazy_images import LazyImage, LazyPixels

__all__ = ["OmeZarrVersion", "ZarrImage", "create_store", "open_store", "reopen_store"]

OmeZarrVersion = Literal["0.4", "0.5"]

_OWN = "cellenhance"
"""Attribute of the group that tells how the image was made, and whether it is finished."""
_ODD = (KeyError, ValueError, TypeError, AttributeError, IndexError, OverflowError, RecursionError)
"""What zarr, and the reading of metadata, raise over values of a wrong kind."""
_KINDS = {"T": "time", "C": "channel", "Z": "space", "Y": "space", "X": "space"}
_UNITS_UM = {"angstrom": 1e-4, "nanometer": 1e-3, "micrometer": 1.0, "millimeter": 1e3, "centimeter": 1e4, "meter": 1e6}
_UNITS_S = {"nanosecond": 1e-9, "microsecond": 1e-6, "millisecond": 1e-3, "second": 1.0, "minute": 60.0, "hour": 3600.0}


@dataclass(frozen=True, slots=True)
class ZarrImage:
    """An OME-Zarr that is being written.

    Parameters
    ----------
    folder : Path
    group : zarr.Group
    levels : tuple of zarr.Array
        Full image first.
    """

    folder: Path
    group: zarr.Group
    levels: tuple[Any, ...]

    def write(self, level: int, corner: Sequence[int], block: NDArray[Any]) -> None:
        """Write whole chunks, and do not return before they are on the disk.

        Parameters
        ----------
        level : int
        corner : sequence of int
            Where the block begins; a multiple of the chunks.
        block : ndarray
            All dimensions; ends where chunks or the image do.
        """
        array = self.levels[level]
        place = tuple(slice(start, start + n) for start, n in zip(corner, block.shape, strict=True))
        array[place] = block
        for index in np.ndindex(*(-(-n // side) for n, side in zip(block.shape, array.chunks, strict=True))):
            chunk = (start // side + i for start, side, i in zip(corner, array.chunks, index, strict=True))
            path = self.folder / array.path / array.metadata.encode_chunk_key(tuple(chunk))
            if path.exists():  # chunks of nothing but zeros are left out
                with open(path, "rb+") as stream:
                    os.fsync(stream.fileno())

    def read(self, level: int, place: Sequence[slice]) -> NDArray[Any]:
        """Pixels of a level."""
        return np.asarray(self.levels[level][tuple(place)])

    def finish(self, provenance: Mapping[str, Any]) -> None:
        """Say that it is complete, and how it was made."""
        self.group.attrs[_OWN] = {"is_complete": True, "provenance": json_ready(provenance)}


def create_store(
    folder: str | os.PathLike[str],
    shapes: Sequence[Sequence[int]],
    axes: str,
    *,
    dtype: Any,
    chunk_px: int,
    name: str,
    pixel_size_um: Mapping[str, float] | None = None,
    channel_names: Sequence[str] = (),
    version: OmeZarrVersion = "0.5",
    is_labels: bool = False,
) -> ZarrImage:
    """Make an OME-Zarr whose pixels are all 0, marked as unfinished.

    Parameters
    ----------
    folder : str or path-like
        Must not exist.
    shapes : sequence of shapes
        Of all levels, the full image first; rows and columns of each are half of the one before.
    axes : str
        Letters in the order ``TCZYX``.
    dtype : dtype
    chunk_px : int
        Rows and columns of a chunk; it is one plane thick.
    name : str
        Of the image.
    pixel_size_um : mapping or None
        Axis letter → µm (``T``: s); without it a pixel has size 1 and no unit.
    channel_names : sequence of str
        One per channel, or empty.
    version : "0.4" or "0.5"
    is_labels : bool
        Pixels are ids or classes: the metadata say so (``image-label``).

    Raises
    ------
    ParameterError
        Axes in another order, or an unknown version.
    """
    if version not in ("0.4", "0.5"):
        raise ParameterError(f"the version of OME-Zarr is {version!r}; expected 0.4 or 0.5")
    if axes != "".join(letter for letter in "TCZYX" if letter in axes):
        raise ParameterError(f"axes are {axes!r}; expected some of TCZYX in this order")
    is_new = version == "0.5"
    group = zarr.open_group(str(folder), mode="w-", zarr_format=3 if is_new else 2)
    names = [letter.lower() for letter in axes]
    levels = []
    for number, shape in enumerate(shapes):
        chunks = tuple(min(chunk_px, n) if letter in "YX" else 1 for letter, n in zip(axes, shape, strict=True))
        kind: dict[str, Any] = (
            {"dimension_names": names} if is_new else {"chunk_key_encoding": {"name": "v2", "separator": "/"}}
        )
        levels.append(
            group.create_array(str(number), shape=tuple(shape), chunks=chunks, dtype=dtype, fill_value=0, **kind)
        )
    multiscale = _multiscale(axes, shapes, name, pixel_size_um or {})
    if is_labels:
        multiscale["type"] = "nearest"
    told: dict[str, Any] = {"multiscales": [multiscale]}
    if is_labels:
        told["image-label"] = {"version": version}
    if channel_names:
        told["omero"] = {"channels": [_channel(label, np.dtype(dtype)) for label in channel_names]}
    if is_new:
        group.attrs["ome"] = {"version": version, **told}
    else:
        multiscale["version"] = version
        group.attrs.update(told)
    group.attrs[_OWN] = {"is_complete": False}
    return ZarrImage(Path(folder), group, tuple(levels))


def reopen_store(folder: str | os.PathLike[str]) -> ZarrImage:
    """Go on writing what :func:`create_store` made.

    Raises
    ------
    ImageError
        No such store, or a damaged one.
    """
    path = Path(folder)
    group = _group(path, mode="r+")
    paths = [str(dataset["path"]) for dataset in _multiscales(path, group)["datasets"]]
    return ZarrImage(path, group, tuple(_array(path, group, name) for name in paths))


def open_store(folder: str | os.PathLike[str]) -> LazyImage:
    """Open an OME-Zarr image, or a plain Zarr array, reading no pixel.

    Of several images in one store the first is taken, as is the first image of a file that
    bioformats2raw converted.

    Raises
    ------
    ImageError
        No Zarr store, none with an image, one that is damaged, or one of ours that is not finished.
    """
    path = Path(folder)
    try:
        return _opened(path)
    except ImageError:
        raise
    except _ODD as error:  # metadata of another shape than the specification asks for
        raise ImageError(f"the metadata of {path} cannot be read ({error}); copy the store again") from error


def _opened(path: Path) -> LazyImage:
    opened = _open(path, mode="r")
    if isinstance(opened, zarr.Array):
        return LazyImage(levels=(LazyPixels(opened),), axes="", notes=("The store names no axes.",))
    own = opened.attrs.get(_OWN)
    if isinstance(own, dict) and own.get("is_complete") is False:
        raise ImageError(f"{path} is not finished; run the command that writes it again, and it continues")
    if "bioformats2raw.layout" in _told(opened) and "multiscales" not in _told(opened):
        opened = _group(path / "0", mode="r")
    told, multiscale = _told(opened), _multiscales(path, opened)
    letters = _letters(path, multiscale)
    levels = tuple(LazyPixels(_array(path, opened, str(data["path"]))) for data in multiscale["datasets"])
    if len(letters) != levels[0].ndim:
        raise ImageError(f"{path} names {len(letters)} axes for an image with {levels[0].ndim} dimensions")
    channels = told.get("omero", {}).get("channels", [])
    names = tuple(str(channel.get("label", "")) for channel in channels)
    is_named = "C" in letters and len(names) == levels[0].shape[letters.index("C")]
    return LazyImage(
        levels=levels,
        axes=letters,
        pixel_size_um=_sizes(multiscale, letters),
        channel_names=names if is_named else (),
        provenance=own.get("provenance") if isinstance(own, dict) else None,
        identity={"metadata": json_ready(opened.attrs.asdict().get("ome", told.get("multiscales")))},
    )


def _multiscale(axes: str, shapes: Sequence[Sequence[int]], name: str, sizes: Mapping[str, float]) -> dict[str, Any]:
    units = {"T": "second", "Z": "micrometer", "Y": "micrometer", "X": "micrometer"}
    known = {a: abs(float(n)) for a, n in sizes.items() if a in units and math.isfinite(n) and n != 0}
    described = []
    for letter in axes:
        unit = {"unit": units[letter]} if letter in known else {}
        described.append({"name": letter.lower(), "type": _KINDS[letter], **unit})
    datasets = []
    for number, _ in enumerate(shapes):
        factors = [known.get(a, 1.0) * (2.0**number if a in "YX" else 1.0) for a in axes]
        # The mean of two pixels lies half a pixel further on than the first of them.
        shifts = [known.get(a, 1.0) * ((2.0**number - 1) / 2 if a in "YX" else 0.0) for a in axes]
        steps: list[dict[str, Any]] = [{"type": "scale", "scale": factors}]
        if number:
            steps.append({"type": "translation", "translation": shifts})
        datasets.append({"path": str(number), "coordinateTransformations": steps})
    return {"name": name, "axes": described, "datasets": datasets, "type": "mean"}


def _channel(label: str, dtype: np.dtype[Any]) -> dict[str, Any]:
    end = float(np.iinfo(dtype).max) if dtype.kind in "iu" else 1.0
    window = {"start": 0.0, "end": end, "min": 0.0, "max": end}
    return {"label": label, "color": "FFFFFF", "active": True, "window": window}


def _open(path: Path, mode: Literal["r", "r+"]) -> Any:
    try:
        return zarr.open(str(path), mode=mode)
    except (FileNotFoundError, *_ODD) as error:
        raise ImageError(f"{path} is not a readable Zarr store, or it is damaged: {error}") from error


def _group(path: Path, mode: Literal["r", "r+"]) -> Any:
    opened = _open(path, mode)
    if not isinstance(opened, zarr.Group):
        raise ImageError(f"{path} is a plain Zarr array; expected an OME-Zarr group")
    return opened


def _array(path: Path, group: Any, name: str) -> Any:
    try:
        array = group[name]
    except _ODD as error:
        raise ImageError(f"{path} names the level {name!r}, which is missing or damaged; copy it again") from error
    if not isinstance(array, zarr.Array):
        raise ImageError(f"the level {name!r} of {path} is no array; it was not written completely")
    return array


def _told(group: Any) -> dict[str, Any]:
    """Metadata of OME: inside "ome" since 0.5, on top before."""
    attributes = group.attrs.asdict()
    inner = attributes.get("ome")
    return inner if isinstance(inner, dict) else attributes


def _multiscales(path: Path, group: Any) -> dict[str, Any]:
    told = _told(group)
    if "plate" in told or "well" in told:
        raise ImageError(f"{path} is a plate of many images; name one of them, such as {path}/A/1/0")
    found = told.get("multiscales")
    if not (isinstance(found, list) and found and isinstance(found[0], dict) and found[0].get("datasets")):
        raise ImageError(f"{path} holds no image of OME-Zarr (no multiscales); name the folder of the image")
    first: dict[str, Any] = found[0]
    return first


def _letters(path: Path, multiscale: Mapping[str, Any]) -> str:
    axes = multiscale.get("axes", ["t", "c", "z", "y", "x"])  # before 0.3 they were always these
    names = [str(axis["name"] if isinstance(axis, dict) else axis) for axis in axes]
    letters = "".join(name.upper() for name in names)
    if not (set(letters) <= set("TCZYX") and len(letters) == len(names)):
        raise ImageError(f"{path} has the axes {', '.join(names)}; expected some of t, c, z, y, x")
    return letters


def _sizes(multiscale: Mapping[str, Any], letters: str) -> dict[str, float]:
    """µm (and s) per pixel of the full image; axes without a unit are left out."""
    factors = [1.0] * len(letters)
    for steps in (multiscale["datasets"][0], multiscale):
        for step in steps.get("coordinateTransformations", ()):
            if step.get("type") == "scale" and len(step.get("scale", ())) == len(letters):
                factors = [factor * float(more) for factor, more in zip(factors, step["scale"], strict=True)]
    sizes = {}
    for letter, factor, axis in zip(letters, factors, multiscale.get("axes", ()), strict=False):
        unit = str(axis.get("unit", "")) if isinstance(axis, dict) else ""
        known = (_UNITS_S if letter == "T" else _UNITS_UM).get(unit)
        if letter != "C" and known is not None and math.isfinite(factor) and factor > 0:
            sizes[letter] = factor * known
    return sizes
