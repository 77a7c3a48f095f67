"""Layers and files as noisy images to learn from: planes or volumes in their own grey values."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.axes import check_axes, select_channels, to_canonical
from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.normalize import sanitize

__all__ = [
    "NoisyLayer", "Portion", "RawImage", "digest_of", "portion_of", "read_files", "read_layers", "window_at",
]  # fmt: skip

MAX_PIXELS = 128_000_000
"""Of all layers together: 512 MB as float32. Of more, planes or volumes are taken at equal steps."""
_SUFFIXES = (".tif", ".tiff", ".png")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NoisyLayer:
    """An image to learn from.

    Parameters
    ----------
    name : str
        For messages and for the record on the model card.
    image : array-like
        Any order of axes; lazy arrays are read plane by plane. Never written to.
    axes : str
        One letter per dimension out of ``TCZYX`` and ``S``.
    channels : "all", "grey" or tuple of int
    """

    name: str
    image: Any
    axes: str
    channels: Literal["all", "grey"] | tuple[int, ...] = "all"


@dataclass(frozen=True, slots=True, eq=False)
class RawImage:
    """A plane (C, Y, X) or a volume (C, Z, Y, X) in its own grey values, finite, float32."""

    name: str
    pixels: NDArray[np.float32]
    weight: float = 1.0


def read_layers(layers: Sequence[NoisyLayer], n_dims: Literal[2, 3] = 2) -> list[RawImage]:
    """Planes (``n_dims`` 2) or volumes (3) of layers; copies.

    Raises
    ------
    AxesError
        Axes that do not fit the shape.
    ImageError
        Nothing but planes of one single grey value; layers that differ in their channels; no Z axis for volumes.
    ParameterError
        No layer.
    """
    if not layers:
        raise ParameterError("no image was given to learn from; choose at least one layer")
    images = [image for layer in layers for image in _images_of(layer, n_dims, len(layers))]
    if not images:
        names = ", ".join(f"“{layer.name}”" for layer in layers)
        raise ImageError(f"{names} shows one single grey value everywhere; there is nothing to learn")
    _check_channels(images)
    return images


@dataclass(frozen=True, slots=True, kw_only=True)
class Portion:
    """How much of a layer is learned from.

    Parameters
    ----------
    n_used, n_there : int
        Planes or volumes that are read, and all there are.
    n_channels : int
    sides : tuple of int
        Of one of them, ([Z,] Y, X), in px.
    """

    n_used: int
    n_there: int
    n_channels: int
    sides: tuple[int, ...]


def portion_of(layer: NoisyLayer, n_dims: Literal[2, 3] = 2, n_layers: int = 1) -> Portion:
    """Say how much of a layer is learned from, where ``n_layers`` share the memory; reads no pixel.

    Raises
    ------
    AxesError
        Axes that do not fit the shape.
    ImageError
        No Z axis for volumes.
    """
    n_t, n_c, n_z, height, width = (int(n) for n in _canonical(layer).shape)
    if n_dims == 3 and n_z < 2:
        raise ImageError(f"“{layer.name}” has no Z axis; train on planes (2-D), or choose a stack")
    sides = (n_z, height, width) if n_dims == 3 else (height, width)
    n_there = n_t if n_dims == 3 else n_t * n_z
    per_image = n_c * int(np.prod(sides))
    n_used = min(n_there, max(1, MAX_PIXELS // max(1, n_layers) // max(1, per_image)))
    return Portion(n_used=n_used, n_there=n_there, n_channels=n_c, sides=sides)


def window_at(layer: NoisyLayer, *, t: int = 0, planes: slice | int = 0) -> NDArray[np.float32]:
    """One plane (C, Y, X), or some planes (C, Z, Y, X), finite, in its own grey values; of a lazy layer only these."""
    chosen = _canonical(layer)
    pixels, _ = sanitize(np.asarray(chosen[t, :, planes]))
    return np.asarray(pixels, np.float32)


def _canonical(layer: NoisyLayer) -> Any:
    axes = check_axes(layer.axes, np.shape(layer.image))
    return select_channels(to_canonical(layer.image, axes), axes, layer.channels)[0]


def _images_of(layer: NoisyLayer, n_dims: Literal[2, 3], n_layers: int) -> Iterator[RawImage]:
    portion, chosen = portion_of(layer, n_dims, n_layers), _canonical(layer)
    n_z = int(chosen.shape[2])
    for i in np.linspace(0, portion.n_there - 1, portion.n_used).round().astype(int):
        t, z = divmod(int(i), n_z) if n_dims == 2 else (int(i), 0)
        part = chosen[t, :, z] if n_dims == 2 else chosen[t]
        pixels, _ = sanitize(np.asarray(part))
        pixels = pixels.astype(np.float32)
        if all(float(channel.min()) < float(channel.max()) for channel in pixels):
            name = f"{layer.name}, {'plane' if n_dims == 2 else 'volume'} {i}"
            yield RawImage(layer.name if portion.n_there == 1 else name, pixels)


def read_files(
    data: str | os.PathLike[str],
    *,
    data_root: str | os.PathLike[str] | None = None,
    axes: str = "",
    channels: Literal["all", "grey"] | tuple[int, ...] = "all",
    n_dims: Literal[2, 3] = 2,
) -> list[RawImage]:
    """Images of a file, a folder, or a JSON list of sources.

    Parameters
    ----------
    data : path
        TIFF, OME-TIFF or PNG; a folder of such files; or ``{"sources": [...]}`` as ``io.datasets.read_planes`` reads
        them (single channels), where ``weight`` says how often the images of a source are drawn.
    data_root : path, optional
        Folder that the paths of a JSON file start from; default: the folder of the file.
    axes : str
        Of every file; empty: as in the file.

    Raises
    ------
    ImageError, AxesError
        Nothing there, not readable, no contrast; files that differ in their channels.
    """
    from napari_cellenhance.io.images import read

    place = Path(data)
    if place.suffix.lower() == ".json":
        return _from_json(place, place.parent if data_root is None else Path(data_root))
    paths = [place]
    if place.is_dir():
        paths = sorted(p for p in place.iterdir() if p.suffix.lower() in _SUFFIXES and not p.name.startswith("."))
        if not paths:
            raise ImageError(f"there is no TIFF or PNG file in {place}; choose another folder")
    layers = []
    for path in paths:
        file = read(path)
        layers.append(NoisyLayer(name=path.name, image=file.image, axes=axes or file.axes, channels=channels))
    return read_layers(layers, n_dims)


def _from_json(path: Path, root: Path) -> list[RawImage]:
    from napari_cellenhance.io.datasets import read_planes
    from napari_cellenhance.io.source_lists import read_source_list

    images = []
    for entry in read_source_list(path):
        planes, _ = read_planes(entry, root)
        name, weight = str(entry.get("name", "images")), float(entry.get("weight", 1.0))
        for i, plane in enumerate(planes):
            pixels, _ = sanitize(plane)
            if float(pixels.min()) < float(pixels.max()):
                images.append(RawImage(f"{name}, plane {i}", pixels.astype(np.float32)[None], weight))
    if not images:
        raise ImageError(f"the sources of {path} hold no image with contrast")
    return images


def _check_channels(images: Sequence[RawImage]) -> None:
    first = images[0]
    for image in images:
        if image.pixels.shape[0] != first.pixels.shape[0]:
            raise ImageError(
                f"“{image.name}” has {image.pixels.shape[0]} channels, “{first.name}” {first.pixels.shape[0]}; choose "
                "images of the same channels, or one channel of each"
            )


def digest_of(images: Sequence[RawImage]) -> str:
    """SHA-256 of all pixels and weights."""
    digest = hashlib.sha256()
    for image in images:
        digest.update(f"{image.pixels.shape} {image.weight}".encode())
        digest.update(np.ascontiguousarray(image.pixels).tobytes())
    return digest.hexdigest()
