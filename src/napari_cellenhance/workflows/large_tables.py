"""Tables of the objects of images larger than memory: each object measured as a whole, a window at a time."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.tiling import Region, split
from napari_cellenhance.workflows._planes import PlaneIndex
from napari_cellenhance.workflows.object_tables import columns_of, rows_of_plane
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, Progress, never_cancelled, no_progress
from napari_cellenhance.workflows.requests import EnhanceRequest

if TYPE_CHECKING:
    from napari_cellenhance.workflows._large_source import LargeSource

__all__ = ["LargeTableRequest", "LargeTableResult", "run"]

_BLOCK_PX = 1024
_CONTEXT_PX = 256
_LARGEST_PX = 1 << 26
"""Objects in a larger box are not measured: it would not fit into memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LargeTableRequest:
    """Measure the objects of labels.

    Parameters
    ----------
    labels : path
        OME-Zarr or TIFF of whole numbers; 0 is ground.
    images : mapping of str to path
        Images of the same planes, whose names begin the columns of grey values. An image with more channels than the
        labels is measured in each of them.
    target : path
        ``.csv`` or ``.parquet``.
    overwrite : bool
    """

    labels: str | os.PathLike[str]
    images: Mapping[str, str | os.PathLike[str]] = field(default_factory=dict)
    target: str | os.PathLike[str]
    overwrite: bool = False

    def __post_init__(self) -> None:
        if Path(self.target).suffix not in (".csv", ".parquet"):
            raise ParameterError(
                f"a table cannot be written to {self.target}; expected a name ending in .csv or .parquet"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class LargeTableResult:
    """What became of the table."""

    target: Path
    n_objects: int
    is_complete: bool = True
    warnings: tuple[str, ...] = ()


def run(
    request: LargeTableRequest, *, on_progress: OnProgress = no_progress, is_cancelled: IsCancelled = never_cancelled
) -> LargeTableResult:
    """Measure every object on every plane; the same columns and rows as of images in memory.

    Rows of one plane are in memory at a time. The table is there as a whole or not at all.

    Raises
    ------
    ImageError, AxesError, ParameterError
        Files that cannot be read by region, or that do not show the same planes.
    TargetExistsError, WriteError
        The table is there already, or cannot be written.
    MissingExtraError
        Parquet without pyarrow.
    """
    from napari_cellenhance.core.inference import Cancelled
    from napari_cellenhance.io.lazy_images import open_lazily
    from napari_cellenhance.io.tables import table_stream

    def checkpoint() -> None:
        if is_cancelled():
            raise Cancelled

    target, n_objects, too_large = Path(request.target), 0, 0
    with ExitStack() as files:
        ids = _source(files.enter_context(open_lazily(request.labels)))
        if ids.dtype.kind not in "bui":
            raise ImageError(f"{request.labels} holds {ids.dtype} values; expected labels, which are whole numbers")
        shown = {name: _source(files.enter_context(open_lazily(path))) for name, path in request.images.items()}
        for name, image in shown.items():
            _check_same_place(name, image, ids)
        channels = {name: image.shape[1] > 1 and ids.shape[1] == 1 for name, image in shown.items()}
        names = [
            f"{name}_c{c}" if channels[name] else name
            for name, image in shown.items() for c in range(image.shape[1] if channels[name] else 1)
        ]  # fmt: skip
        planes = [(int(t), int(c), int(z)) for t, c, z in np.ndindex(*ids.shape[:3])]
        try:
            with table_stream(target, columns_of(names), overwrite=request.overwrite) as write:
                for number, index in enumerate(planes):
                    on_progress(
                        Progress(n_done=number, n_total=len(planes), message=f"Plane {number + 1} of {len(planes)}")
                    )
                    rows, left_out = _rows(ids, shown, channels, index, checkpoint)
                    write(sorted(rows, key=lambda row: int(row["label"])))
                    n_objects, too_large = n_objects + len(rows), too_large + left_out
        except Cancelled:
            return LargeTableResult(target=target, n_objects=n_objects, is_complete=False)
    warnings: tuple[str, ...] = ()
    if too_large:
        warnings = (f"{too_large} objects are too large to be measured at once, and have no row.",)
    return LargeTableResult(target=target, n_objects=n_objects, warnings=warnings)


def _source(image: Any) -> LargeSource:
    from napari_cellenhance.workflows._large_source import LargeSource

    return LargeSource(image, EnhanceRequest(image=None, axes=""))


def _check_same_place(name: str, image: LargeSource, ids: LargeSource) -> None:
    ours, theirs = image.shape, ids.shape
    if (ours[0], *ours[2:]) != (theirs[0], *theirs[2:]) or theirs[1] not in (1, ours[1]):
        raise ImageError(
            f"“{name}” has the shape {ours}, the labels {theirs} (T, C, Z, Y, X); expected the same planes, and as "
            "many channels or labels of one"
        )


def _rows(
    ids: LargeSource, shown: Mapping[str, LargeSource], channels: Mapping[str, bool], index: PlaneIndex, checkpoint: Any
) -> tuple[list[dict[str, Any]], int]:
    """Rows of one plane, and how many objects were too large."""
    sizes = tuple(float(ids.pixel_size_um.get(axis, math.nan)) for axis in "YX")
    shape, rows = (ids.shape[-2], ids.shape[-1]), []
    boxes: dict[int, Region] = {}
    cut: set[int] = set()
    whole: set[int] = set()
    for tile in split(shape, _BLOCK_PX, _CONTEXT_PX):
        checkpoint()
        labels = ids.read(index, tile.outer).astype(np.int64)
        seen = _Seen.of(labels, tile.core, tile.outer, shape)
        for label, box in seen.crossing.items():
            boxes[label] = _joined(boxes.get(label), box)
        cut |= seen.cut
        whole |= set(seen.own.tolist()) & seen.crossing.keys()
        kept = np.where(np.isin(labels, seen.own), labels, 0)
        rows += _measured(kept, tile.outer, shown, channels, index, sizes)
    n_too_large = 0
    for label in sorted(cut - whole):
        checkpoint()
        box = boxes[label]
        if box.shape[0] * box.shape[1] > _LARGEST_PX:
            n_too_large += 1
            continue
        labels = ids.read(index, box).astype(np.int64)
        rows += _measured(np.where(labels == label, labels, 0), box, shown, channels, index, sizes)
    return rows, n_too_large


@dataclass(frozen=True, slots=True)
class _Seen:
    """Objects of a block as its window sees them.

    Parameters
    ----------
    own : ndarray of int
        Those whose first pixel lies in the block and that are seen from end to end.
    cut : set of int
        Those in the block that reach beyond the window.
    crossing : dict of int to Region
        Of those that touch the edge of the block: where they are in it.
    """

    own: NDArray[np.int64]
    cut: set[int]
    crossing: dict[int, Region]

    @classmethod
    def of(cls, labels: NDArray[np.int64], core: Region, outer: Region, shape: tuple[int, int]) -> _Seen:
        """What a window ``outer`` around a block ``core`` shows."""
        from scipy.ndimage import find_objects

        behind = [
            labels[0] if outer.y0 > 0 else [], labels[-1] if outer.y1 < shape[0] else [],
            labels[:, 0] if outer.x0 > 0 else [], labels[:, -1] if outer.x1 < shape[1] else [],
        ]  # fmt: skip
        beyond = np.unique(np.concatenate([np.zeros(1, np.int64), *behind]).astype(np.int64))
        at = core.inside(outer)
        known, first = np.unique(labels, return_index=True)
        rows, columns = np.unravel_index(first, labels.shape)
        is_here = (rows >= at.y0) & (rows < at.y1) & (columns >= at.x0) & (columns < at.x1)
        inner = labels[at.slices]
        edge = np.setdiff1d(np.concatenate([inner[0], inner[-1], inner[:, 0], inner[:, -1]]), [0])
        dense = np.where(np.isin(inner, edge), np.searchsorted(edge, inner) + 1, 0)
        crossing = {
            int(label): Region(*(n for one, start in zip(box, (core.y0, core.x0), strict=True)
                                 for n in (one.start + start, one.stop + start)))
            for label, box in zip(edge, find_objects(dense), strict=False) if box is not None
        }  # fmt: skip
        return cls(
            np.setdiff1d(known[is_here], beyond), set(np.intersect1d(edge, beyond).astype(int).tolist()), crossing
        )


def _joined(one: Region | None, other: Region) -> Region:
    if one is None:
        return other
    return Region(min(one.y0, other.y0), max(one.y1, other.y1), min(one.x0, other.x0), max(one.x1, other.x1))


def _measured(
    labels: NDArray[np.int64],
    window: Region,
    shown: Mapping[str, LargeSource],
    channels: Mapping[str, bool],
    index: PlaneIndex,
    sizes: tuple[float, ...],
) -> list[dict[str, Any]]:
    if not labels.any():
        return []
    t, c, z = index
    names, planes = [], []
    for name, image in shown.items():
        for channel in range(image.shape[1]) if channels[name] else [c]:
            names.append(f"{name}_c{channel}" if channels[name] else name)
            planes.append(image.read((t, channel, z), window).astype(np.float64))
    return rows_of_plane(labels, planes, names, index, sizes, (window.y0, window.x0))
