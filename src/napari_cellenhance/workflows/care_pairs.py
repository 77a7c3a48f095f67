"""Pairs that a restoration learns from: real ones, from layers, folders and lists of sources."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.normalize import sanitize
from napari_cellenhance.workflows.noisy_images import NoisyLayer, portion_of, window_at
from napari_cellenhance.workflows.synthesize import group_of

__all__ = ["LearningPair", "PairedLayers", "digest_of_pairs", "read_pair_files", "read_pair_layers", "regrouped"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PairedLayers:
    """A poor and a clean image of the same place, of the same shape and axes."""

    poor: NoisyLayer
    clean: NoisyLayer


@dataclass(frozen=True, slots=True, eq=False)
class LearningPair:
    """A pair of planes (Y, X) or volumes (Z, Y, X), finite, float32, in their own grey values."""

    name: str
    group: str
    poor: NDArray[np.float32]
    clean: NDArray[np.float32]
    weight: float = 1.0


def read_pair_layers(layers: Sequence[PairedLayers], n_dims: Literal[2, 3] = 2) -> list[LearningPair]:
    """Planes or volumes of pairs of layers, channel by channel; copies.

    Raises
    ------
    ParameterError
        No pair.
    ImageError
        Two layers of different size; nothing but single grey values; no Z axis for volumes.
    """
    if not layers:
        raise ParameterError("no pair was given to learn from; choose a poor and a clean image of the same place")
    pairs = [pair for both in layers for pair in _pairs_of(both, n_dims, len(layers))]
    if not pairs:
        raise ImageError("the pairs show one single grey value everywhere; there is nothing to learn")
    return regrouped(pairs)


def _pairs_of(both: PairedLayers, n_dims: Literal[2, 3], n_layers: int) -> list[LearningPair]:
    first, second = (portion_of(layer, n_dims, 2 * n_layers) for layer in (both.poor, both.clean))
    if (first.n_there, first.n_channels, first.sides) != (second.n_there, second.n_channels, second.sides):
        raise ImageError(
            f"“{both.poor.name}” is {first.n_there} × {first.n_channels} × {first.sides}, “{both.clean.name}” "
            f"{second.n_there} × {second.n_channels} × {second.sides} (images, channels, sides); expected the same"
        )
    found = []
    n_planes = _n_planes(both.poor, n_dims, first.n_there)
    for i in np.linspace(0, first.n_there - 1, first.n_used).round().astype(int):
        t, z = divmod(int(i), n_planes)
        planes: slice | int = slice(None) if n_dims == 3 else z
        poor, clean = (window_at(layer, t=t, planes=planes) for layer in (both.poor, both.clean))
        for c in range(first.n_channels):
            if min(float(np.ptp(poor[c])), float(np.ptp(clean[c]))) > 0:
                name = both.poor.name if first.n_there == 1 else f"{both.poor.name}, image {i}"
                found.append(LearningPair(name, both.poor.name, poor[c].copy(), clean[c].copy()))
    return found


def _n_planes(layer: NoisyLayer, n_dims: int, n_there: int) -> int:
    """Images for each time point: planes of a stack, or one volume."""
    shape, axes = np.shape(layer.image), layer.axes
    n_t = int(shape[axes.index("T")]) if "T" in axes else 1
    return 1 if n_dims == 3 else max(1, n_there // n_t)


def read_pair_files(
    data: str | os.PathLike[str],
    *,
    data_root: str | os.PathLike[str] | None = None,
    axes: str = "",
    channels: Literal["all", "grey"] | tuple[int, ...] = "all",
    n_dims: Literal[2, 3] = 2,
) -> list[LearningPair]:
    """Pairs of a folder with the folders ``noisy`` and ``clean``, or of a JSON file for ``io.pairs.read_pairs``.

    Files of a folder belong together in the order of their names.

    Raises
    ------
    ImageError, AxesError, ParameterError
        Nothing there, not readable, another number or size of clean images.
    """
    place = Path(data)
    if place.is_dir():
        return read_pair_layers(_layers_of(place, axes, channels), n_dims)
    if n_dims == 3:
        raise ParameterError("volumes are read from a folder with the folders 'noisy' and 'clean', not from a list")
    from napari_cellenhance.io.pairs import read_pairs

    found = []
    for source in read_pairs(place, data_root=data_root):
        for i, (poor, clean) in enumerate(zip(source.noisy, source.clean, strict=True)):
            name = f"{source.name}, plane {i}"
            pixels = [np.asarray(sanitize(plane)[0], np.float32) for plane in (poor, clean)]
            if min(float(np.ptp(plane)) for plane in pixels) > 0:
                found.append(LearningPair(name, name, pixels[0], pixels[1]))
    if not found:
        raise ImageError(f"the pairs of {place} show one single grey value everywhere; there is nothing to learn")
    return regrouped(found)


def _layers_of(place: Path, axes: str, channels: Any) -> list[PairedLayers]:
    from napari_cellenhance.io.images import read
    from napari_cellenhance.workflows._targets import find_sources

    for kind in ("noisy", "clean"):
        if not (place / kind).is_dir():
            raise ImageError(f"{place} has no folder '{kind}'; expected the folders 'noisy' and 'clean'")
    noisy, clean = (find_sources(place / kind) for kind in ("noisy", "clean"))
    if len(noisy) != len(clean):
        raise ImageError(f"{place} has {len(noisy)} noisy and {len(clean)} clean images; expected as many of each")
    layers = []
    for one, other in zip(noisy, clean, strict=True):
        members = []
        for path in (one, other):
            file = read(path)
            members.append(NoisyLayer(name=path.name, image=file.image, axes=axes or file.axes, channels=channels))
        layers.append(PairedLayers(poor=members[0], clean=members[1]))
    return layers


def regrouped(pairs: Sequence[LearningPair]) -> list[LearningPair]:
    """Bring together what must be kept aside together.

    Pairs with the very same clean image (exposures of one sample, in files of their own) become one group. Where
    everything comes from a single file or layer, its images are the groups.
    """
    n_files = len({group_of(pair.group) for pair in pairs})
    n_images = len({pair.name for pair in pairs})
    first: dict[str, str] = {}
    found = []
    for pair in pairs:
        own = pair.name if n_files == 1 and n_images > 1 else pair.group
        key = hashlib.sha256(str(pair.clean.shape).encode() + np.ascontiguousarray(pair.clean).tobytes()).hexdigest()
        found.append(LearningPair(pair.name, first.setdefault(key, own), pair.poor, pair.clean, pair.weight))
    return found


def digest_of_pairs(pairs: Sequence[LearningPair]) -> str:
    """SHA-256 of all pixels, groups and weights."""
    digest = hashlib.sha256()
    for pair in pairs:
        digest.update(f"{pair.clean.shape} {pair.group} {pair.weight}".encode())
        digest.update(np.ascontiguousarray(pair.poor).tobytes() + np.ascontiguousarray(pair.clean).tobytes())
    return digest.hexdigest()
