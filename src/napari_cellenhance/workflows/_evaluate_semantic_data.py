"""Real objects, channels and grounds to evaluate the semantic filter: what a JSON list names, read and scaled.

Grey values of an image, or of a channel, are divided by its 99th percentile; the network's range is twice that, so that
sums of two layers keep within it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from napari_cellenhance.core.crop_extraction import from_labels
from napari_cellenhance.core.crop_library import merge
from napari_cellenhance.core.crop_options import CutOptions, KeepOptions
from napari_cellenhance.core.crops import Background, CropSet, ObjectCrop
from napari_cellenhance.core.errors import ImageError
from napari_cellenhance.core.normalize import percentiles
from napari_cellenhance.io.json_ready import load_json

__all__ = [
    "TOP", "Channels", "Kinds", "Plane", "Spec", "Stage", "digest_of", "grounds_of", "read_channels", "read_kinds",
    "read_spec", "read_stage",
]  # fmt: skip

Plane = NDArray[np.float32]
TOP: Final = 2.0
"""What becomes 1 for the network, in 99th percentiles of an image."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class KindSpec(_Strict):
    """Objects of one kind: labelled images to learn from and to test on, as for ``io.labelled``, and their size."""

    train: dict[str, Any]
    test: dict[str, Any]
    diameter_px: tuple[float, float]


class MixtureSpec(_Strict):
    """Two kinds of objects, how many of each lie in an image to learn from, and on what ground."""

    name: str
    target: KindSpec
    unwanted: KindSpec
    n_target: tuple[int, int] = (1, 3)
    n_unwanted: tuple[int, int] = (2, 5)


class PlanesSpec(_Strict):
    """Planes ``train`` and ``test`` of an array of an archive, which has the axes plane, channel, Y, X."""

    npz: str
    key: str
    train: tuple[int, ...]
    test: tuple[int, ...]
    license: str = ""


class ChannelsSpec(PlanesSpec):
    """Two channels to be added up."""

    name: str
    target: int
    unwanted: int


class ScenesSpec(PlanesSpec):
    """One channel that stands still."""

    channel: int


class MovieSpec(_Strict):
    """Objects that move through scenes."""

    name: str
    objects: KindSpec
    scenes: ScenesSpec
    n_moving: tuple[int, int] = (3, 5)
    n_still: tuple[int, int] = (0, 1)
    step_px: tuple[float, float] = (12.0, 30.0)


class Spec(_Strict):
    """What there is to evaluate on."""

    comment: str = ""
    mixtures: tuple[MixtureSpec, ...] = ()
    channels: tuple[ChannelsSpec, ...] = ()
    movies: tuple[MovieSpec, ...] = Field(default=())


@dataclass(frozen=True, slots=True, eq=False)
class Kinds:
    """Crops of two kinds and grounds, of images to learn from and of others to test on."""

    spec: MixtureSpec
    train: CropSet
    test: CropSet


@dataclass(frozen=True, slots=True, eq=False)
class Channels:
    """Planes of two channels, (wanted, unwanted)."""

    spec: ChannelsSpec
    train: tuple[tuple[Plane, Plane], ...]
    test: tuple[tuple[Plane, Plane], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """Scenes and the objects that move through them."""

    spec: MovieSpec
    train: tuple[tuple[Plane, ...], CropSet]
    test: tuple[tuple[Plane, ...], CropSet]


def read_spec(path: str | os.PathLike[str]) -> Spec:
    """Read the JSON list.

    Raises
    ------
    ImageError
        It cannot be read, or is no such list; the message says where.
    """
    try:
        return Spec.model_validate(load_json(Path(path)))
    except (OSError, ValueError) as error:
        why = error.errors()[0] if isinstance(error, ValidationError) else None
        told = f"{'.'.join(map(str, why['loc']))}: {why['msg']}" if why else str(error)
        raise ImageError(
            f"{path} is no list of data for this evaluation ({told}); see training/semantic-evaluate.json"
        ) from error


def read_kinds(spec: MixtureSpec, root: Path, max_images: int, seed: int) -> Kinds:
    """Cut out the objects of both kinds; grounds are those of the images of both."""
    parts = []
    for part in ("train", "test"):
        target, unwanted = (
            _crops(getattr(kind, part), kind.diameter_px, root, max_images, seed, f"{spec.name}, {word}, {part}")
            for word, kind in (("target", spec.target), ("unwanted", spec.unwanted))
        )
        grounds = (*target.backgrounds, *unwanted.backgrounds)
        parts.append(CropSet(target=target.target, unwanted=unwanted.target, backgrounds=grounds))
    return Kinds(spec, parts[0], parts[1])


def read_channels(spec: ChannelsSpec, root: Path) -> Channels:
    """Read both channels of every plane."""
    train, test = (
        tuple(zip(*(_planes(spec, root, which, channel) for channel in (spec.target, spec.unwanted)), strict=True))
        for which in (spec.train, spec.test)
    )
    return Channels(spec, train, test)


def read_stage(spec: MovieSpec, root: Path, max_images: int, seed: int) -> Stage:
    """Read scenes, and cut out objects."""
    kind, found = spec.objects, []
    for part in ("train", "test"):
        crops = _crops(getattr(kind, part), kind.diameter_px, root, max_images, seed, f"{spec.name}, objects, {part}")
        scenes = _planes(spec.scenes, root, getattr(spec.scenes, part), spec.scenes.channel)
        found.append((tuple(scenes), crops))
    return Stage(spec, found[0], found[1])


def _crops(
    source: dict[str, Any], diameter_px: tuple[float, float], root: Path, max_images: int, seed: int, what: str
) -> CropSet:
    """Whole objects of one size, as the target; grounds are what no object covers."""
    from napari_cellenhance.io.labelled import Selection, read_labelled_source

    smallest, largest = (int(np.pi / 4 * d**2) for d in diameter_px)
    libraries = []
    for one in read_labelled_source(source, root, Selection(max_images=max_images, seed=seed)):
        white = percentiles(one.image, (99.0,))[0]
        if one.labels is None or not white > 0:
            continue
        options = CutOptions(keep=KeepOptions(min_area_px=smallest, max_area_px=largest))
        pixels = (one.image / np.float32(white)).astype(np.float32)
        libraries.append(from_labels(pixels, one.labels, source=f"{one.source}/{one.name}", options=options))
    crops = merge(libraries).crop_set() if libraries else CropSet()
    if len(crops.target) < 2 or not crops.backgrounds:
        raise ImageError(
            f"there are {len(crops.target)} objects of {diameter_px[0]:g}–{diameter_px[1]:g} px and "
            f"{len(crops.backgrounds)} grounds ({what}); expected two objects or more in labelled images, and a ground"
        )
    return CropSet(target=crops.target, backgrounds=crops.backgrounds)


def _planes(spec: PlanesSpec, root: Path, which: Sequence[int], channel: int) -> list[Plane]:
    path = root / spec.npz
    try:
        with np.load(path, allow_pickle=False) as archive:
            stack = np.asarray(archive[spec.key])
        planes = [np.asarray(stack[i, channel], np.float32) for i in which]
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise ImageError(f"{path} does not hold the planes {list(which)} of {spec.key!r} ({error})") from error
    return [(plane / np.float32(max(1e-6, percentiles(plane, (99.0,))[0]))).astype(np.float32) for plane in planes]


def grounds_of(crops: CropSet) -> dict[str, float]:
    """Brightness of the ground of every image: the median of what no object covers."""
    return {one.source: float(np.median(one.pixels[~one.mask])) for one in crops.backgrounds}


def digest_of(*parts: Any) -> str:
    """SHA256 of crops, planes and settings."""
    digest = hashlib.sha256()
    for piece in _pieces(parts):
        digest.update(piece)
    return digest.hexdigest()


def _pieces(value: Any) -> Iterator[bytes]:
    if isinstance(value, np.ndarray):
        yield f"{value.dtype} {value.shape}".encode()
        yield np.ascontiguousarray(value).tobytes()
    elif isinstance(value, CropSet):
        yield from _pieces((value.target, value.unwanted, value.backgrounds))
    elif isinstance(value, (ObjectCrop, Background)):
        yield from _pieces((value.source, value.pixels, value.mask))
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _pieces(one)
    else:
        yield repr(value).encode()
