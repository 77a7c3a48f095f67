"""Objects of a large image, block by block: what is done with one block, in this process or in one of many.

All that a block needs lies on the disk: the image, the pieces of objects that were found in each block, and for each
plane which piece belongs to which object. So a piece of work can be done by anyone, and again after any end.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import CellEnhanceError, ParameterError
from napari_cellenhance.core.object_pieces import ObjectOptions, Objects, Pieces, find_pieces
from napari_cellenhance.core.tiling import Region
from napari_cellenhance.io.lazy_images import LazyImage
from napari_cellenhance.io.ome_zarr import ZarrImage, reopen_store
from napari_cellenhance.workflows._large_blocks import BlockStore
from napari_cellenhance.workflows._large_source import LargeSource
from napari_cellenhance.workflows._large_target import partial_of
from napari_cellenhance.workflows._planes import PlaneIndex
from napari_cellenhance.workflows.requests import EnhanceRequest

__all__ = ["LabelRule", "LabelUnit", "Workbench", "pieces_of", "work_on"]

_KEYS, _LINES = "keys", "lines"


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelRule:
    """Which pixels belong to objects.

    Parameters
    ----------
    method : "otsu", "manual" or "class"
        Above a threshold that is found for each plane, above ``value``, or equal to ``value``.
    value : float
        Of enhanced images on the scale 0…1, whatever their pixel type.
    """

    method: Literal["otsu", "manual", "class"] = "otsu"
    value: float = 0.5

    def __post_init__(self) -> None:
        if self.method not in ("otsu", "manual", "class"):
            raise ParameterError(
                f"the threshold of a large image is {self.method!r}; expected otsu or a number: Li's method needs all "
                "pixels at once"
            )
        if not np.isfinite(self.value):
            raise ParameterError(f"threshold is {self.value}; expected a finite number")

    def mask(self, pixels: NDArray[Any], limit: float) -> NDArray[np.bool_]:
        """Pixels of objects; ``limit`` as in the values of the image."""
        if self.method == "class":
            return np.asarray(pixels == int(self.value), np.bool_)
        return np.asarray(np.nan_to_num(pixels) > limit, np.bool_)


@dataclass(frozen=True, slots=True)
class LabelUnit:
    """A piece of work on one plane.

    Parameters
    ----------
    kind : "pieces", "labels" or "level"
        Find the pieces of objects, give them their numbers, or shrink the level below.
    level : int
    index : (t, c, z)
    regions : tuple of Region
    limit : float
        Threshold of the plane.
    """

    kind: Literal["pieces", "labels", "level"]
    level: int
    index: PlaneIndex
    regions: tuple[Region, ...]
    limit: float = 0.0


@dataclass(frozen=True)
class Workbench:
    """What of a run is the same for all of its blocks.

    Parameters
    ----------
    source : path or LazyImage
    target : str
    rule : LabelRule
    objects : ObjectOptions
    block_px, chunk_px : int
    run : str
        Tells runs apart.
    """

    source: str | os.PathLike[str] | LazyImage
    target: str
    rule: LabelRule
    objects: ObjectOptions
    block_px: int
    chunk_px: int
    run: str = ""

    def __getstate__(self) -> dict[str, Any]:
        """What travels to a worker: what was opened here stays here."""
        return {name: self.__dict__[name] for name in self.__dataclass_fields__}

    @functools.cached_property
    def image(self) -> LargeSource:
        """The image, by windows."""
        from napari_cellenhance.io.ome_zarr import open_store

        opened = self.source if isinstance(self.source, LazyImage) else open_store(self.source)
        return LargeSource(opened, EnhanceRequest(image=None, axes=""))

    @functools.cached_property
    def labels(self) -> BlockStore:
        """The result."""
        return BlockStore(
            reopen_store(partial_of(self.target)),
            self.image.axes_out,
            self.block_px,
            self.chunk_px,
            None,
            is_exact=True,
        )

    @functools.cached_property
    def keys(self) -> BlockStore:
        """Pieces of objects."""
        store: ZarrImage = reopen_store(pieces_of(self.target) / _KEYS)
        return BlockStore(store, self.image.axes_out, self.block_px, self.chunk_px, None, is_exact=True)

    def read_pieces(self, index: PlaneIndex, region: Region) -> Pieces:
        """What was found in a block."""
        with np.load(self._lines(index, region)) as lines:
            return Pieces(self.keys.read(0, index, region), lines["below"], lines["right"])

    def keep_objects(self, index: PlaneIndex, objects: Objects, last: int) -> None:
        """Keep the numbers of a plane for those who write them."""
        _save(self._numbers(index), keys=objects.keys, ids=objects.ids, last=np.asarray(last))

    def find(self, unit: LabelUnit, region: Region) -> None:
        """Find the pieces of a block, and keep them."""
        shape = (self.image.shape[-2], self.image.shape[-1])
        window = region.grown(self.objects.context_px, shape)
        mask = self.rule.mask(self.image.read(unit.index, window), unit.limit)
        found = find_pieces(mask, window, region, shape, self.objects)
        _save(self._lines(unit.index, region), below=found.below, right=found.right)
        self.keys.keep(0, unit.index, region, found.keys)

    def number(self, unit: LabelUnit, region: Region) -> None:
        """Write the labels of a block."""
        with np.load(self._numbers(unit.index)) as kept:
            objects, last = Objects(kept["keys"], kept["ids"], 0), int(kept["last"])
        self.labels.keep(0, unit.index, region, objects.number(self.keys.read(0, unit.index, region), last))

    def shrink(self, unit: LabelUnit, region: Region) -> None:
        """Write a block of the pyramid."""
        self.labels.keep(unit.level, unit.index, region, self.labels.halved(unit.level, unit.index, region))

    def _lines(self, index: PlaneIndex, region: Region) -> Path:
        t, c, z = index
        return pieces_of(self.target) / _LINES / f"{t}_{c}_{z}_{region.y0}_{region.x0}.npz"

    def _numbers(self, index: PlaneIndex) -> Path:
        t, c, z = index
        return pieces_of(self.target) / _LINES / f"{t}_{c}_{z}.npz"


def pieces_of(target: str | os.PathLike[str]) -> Path:
    """Folder for pieces of objects, gone when the result is complete."""
    return Path(f"{os.fspath(target).rstrip('/')}.pieces")


def work_on(bench: Workbench, unit: LabelUnit) -> CellEnhanceError | None:
    """Do a piece of work; on a worker of a cluster, with what it keeps of the run.

    Returns
    -------
    CellEnhanceError or None
        What every worker would meet; other errors are raised, and tried again.
    """
    from napari_cellenhance.workflows._large_worker import hopeless_as_told

    try:
        with hopeless_as_told(Path(bench.target)):
            do_unit(_kept(bench), unit, unit.regions)
    except CellEnhanceError as error:
        return error
    return None


def do_unit(bench: Workbench, unit: LabelUnit, regions: Sequence[Region]) -> None:
    """Do some blocks of a unit."""
    work = {"pieces": bench.find, "labels": bench.number, "level": bench.shrink}[unit.kind]
    for region in regions:
        work(unit, region)


_benches: dict[str, Workbench] = {}


def _kept(bench: Workbench) -> Workbench:
    """The bench of a run that this process has opened already."""
    if bench.run not in _benches:
        _benches.clear()
        _benches[bench.run] = bench
    return _benches[bench.run]


def _save(path: Path, **arrays: NDArray[Any]) -> None:
    """Write arrays to a file that is there as a whole or not at all; on the disk when this returns."""
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    with open(temporary, "wb") as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]  # allow_pickle: NumPy 1.26 would store it
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, path)
