"""A run of the Enhance dock that writes to the disk, and the layer that shows what is written already."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from qtpy.QtCore import QObject, Signal

from napari_cellenhance.core.errors import BusyError, TargetExistsError, WriteError
from napari_cellenhance.io.lazy_images import LazyImage, LazyPixels
from napari_cellenhance.io.safe_write import safe_name
from napari_cellenhance.widgets._layers import Choices, LayerView, build_request
from napari_cellenhance.widgets._results import (
    METADATA_KEY,
    NOT_QUANTITATIVE,
    LayerTuple,
    placed,
    quoted,
    result_layers,
)
from napari_cellenhance.widgets._settings import PluginSettings
from napari_cellenhance.workflows import large_images
from napari_cellenhance.workflows.large_images import LargeRequest, LargeResult
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress
from napari_cellenhance.workflows.requests import EnhanceResult

if TYPE_CHECKING:
    from napari_cellenhance.workflows.large_views import LevelView

__all__ = [
    "DiskPlan",
    "DiskResult",
    "DiskRuns",
    "disk_request",
    "label_on_disk",
    "labels_beside",
    "order_in_layer",
    "run_on_disk",
]

_REFRESH_EVERY_S = 0.4


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskPlan:
    """What to write, and where.

    Parameters
    ----------
    view, choices, settings
        As for a run in memory.
    folder : Path
        Made if missing.
    target : Path or None
        Of an unfinished result to go on with; None takes a name that is free.
    """

    view: LayerView
    choices: Choices
    settings: PluginSettings
    folder: Path
    target: Path | None = None

    def is_same_as(self, other: DiskPlan) -> bool:
        """Whether both make the same of the same layer in the same folder."""
        mine, theirs = (replace(plan.choices, suggestion=None) for plan in (self, other))
        is_same_image = len(self.view.levels) == len(other.view.levels) and all(
            a is b for a, b in zip(self.view.levels, other.view.levels, strict=True)
        )
        is_same_place = self.choices.scope == "layer" or self.view.index == other.view.index
        return is_same_image and is_same_place and mine == theirs and self.folder == other.folder


@dataclass(frozen=True, slots=True)
class DiskResult:
    """An image on the disk, and its objects; None where they were not asked for, or the image is not complete."""

    image: LargeResult
    labels: LargeResult | None = None

    @property
    def last(self) -> LargeResult:
        """The one that was worked on last."""
        return self.image if self.labels is None else self.labels


class _Post(QObject):
    """Brings what the thread says to the window: target and sentence, when the unfinished result is there."""

    noted = Signal(str, str)


def disk_request(plan: DiskPlan, target: Path) -> LargeRequest:
    """The layer as a large image, pixels unread. Call it in the worker, as ``build_request``."""
    import dask.array as da  # here and in label_on_disk: the dock opens in half the time without dask and Zarr

    view = plan.view
    if not isinstance(view.levels[0], (np.ndarray, da.Array)):  # a Zarr array would be read when it is cut
        stored = view.levels[0]
        chunks, as_dask = getattr(stored, "chunks", None) or "auto", cast("Any", da.from_array)
        view = replace(view, levels=(as_dask(stored, chunks=chunks, name=False), *view.levels[1:]))
    asked = build_request(view, plan.choices, plan.settings)
    source = LazyImage(
        levels=(LazyPixels(asked.image),), axes=asked.axes, pixel_size_um=dict(asked.pixel_size_um or {}),
        provenance=None if view.made is None else dict(view.made), identity={"layer": view.name},
    )  # fmt: skip
    return LargeRequest(source=source, target=target, settings=replace(asked, image=None, segment=None))


def run_on_disk(
    plan: DiskPlan, on_note: Callable[[Path, str], None], on_progress: OnProgress, is_cancelled: IsCancelled
) -> LargeResult:
    """Write, or go on with what an earlier run, in this window or another, left of the same.

    Raises
    ------
    WriteError
        The folder cannot be made.
    CellEnhanceError
        As for :func:`napari_cellenhance.workflows.large_images.run`.
    """
    try:
        plan.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(f"the folder {plan.folder} cannot be made ({error.strerror}); choose another one") from error
    if plan.target is not None and plan.target.exists():  # all that was left to do is its objects
        return LargeResult(target=plan.target, is_complete=True, n_done=0, n_total=0)
    for target in _targets(plan):
        try:
            return large_images.run(
                disk_request(plan, target), on_progress=on_progress, on_note=partial(on_note, target),
                is_cancelled=is_cancelled,
            )  # fmt: skip
        except (TargetExistsError, BusyError):  # unfinished and of other settings, or being written by another program
            continue
    raise AssertionError("names never run out")


def label_on_disk(
    plan: DiskPlan, image: LargeResult, on_progress: OnProgress, is_cancelled: IsCancelled
) -> LargeResult | None:
    """Number the objects of an image that :func:`run_on_disk` has finished; None where they were not asked for.

    Raises
    ------
    CellEnhanceError
        As for :func:`napari_cellenhance.workflows.large_labels.run`.
    """
    if not image.is_complete or plan.choices.segment is None:
        return None
    from napari_cellenhance.workflows import large_labels
    from napari_cellenhance.workflows.large_objects import labels_by_threshold

    request = labels_by_threshold(disk_request(plan, image.target), labels_beside(image.target), plan.choices.segment)
    return large_labels.run(request, on_progress=on_progress, is_cancelled=is_cancelled)


def labels_beside(target: Path) -> Path:
    """Where the objects of an image on the disk go: ``a_enhanced.ome.zarr`` → ``a_enhanced_labels.ome.zarr``."""
    return target.with_name(f"{target.name.removesuffix('.ome.zarr')}_labels.ome.zarr")


def _targets(plan: DiskPlan) -> Iterator[Path]:
    if plan.target is not None:
        yield plan.target
    stem = f"{safe_name(plan.view.name)}_enhanced"
    for number in itertools.count(1):
        target = plan.folder / f"{stem}{'' if number == 1 else f'-{number}'}.ome.zarr"
        if not target.exists():
            yield target


def order_in_layer(axes: str, axes_stored: str, put_back: int | None) -> tuple[str, tuple[int | None, ...]]:
    """Axes of a stored result in the order of its layer, and which dimension of the store each one is.

    Parameters
    ----------
    axes : str
        Of the source layer.
    axes_stored : str
        In the order TCZYX; colours are channels there.
    put_back : int or None
        Where a dimension of length 1 stands for a channel axis that is gone.

    Examples
    --------
    >>> order_in_layer("ZTYX", "TZYX", None), order_in_layer("YXS", "CYX", None), order_in_layer("ZCYX", "ZYX", 1)
    (('ZTYX', (1, 0, 2, 3)), ('YXS', (1, 2, 0)), ('ZYX', (0, None, 1, 2)))
    """
    found: list[int | None] = []
    letters = ""
    for letter in axes:
        is_only_one = letter == "C" and "S" in axes
        stored = "C" if letter == "S" else letter
        if is_only_one or stored in axes_stored:
            letters += letter
            found.append(None if is_only_one else axes_stored.index(stored))
    if put_back is not None:
        found.insert(put_back, None)
    return letters, tuple(found)


class DiskRuns(QObject):
    """Shows the result of a run on the disk from its first block on, and remembers one that was stopped.

    Parameters
    ----------
    viewer : ViewerModel
    """

    noted = Signal(str)
    shown = Signal(object)

    def __init__(self, viewer: Any, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._plan: DiskPlan | None = None  # of the run under way
        self._paused: DiskPlan | None = None
        self._layer: Any = None
        self._refreshed = 0.0

    def begin(self, plan: DiskPlan) -> Callable[[OnProgress, IsCancelled], DiskResult]:
        """Work for the worker; goes on where the same was stopped."""
        if self.can_go_on(plan):
            assert self._paused is not None
            plan = self._paused
        else:
            self._layer = None
        self._plan, self._paused = plan, None
        post = _Post()
        post.noted.connect(self._on_note)

        def work(on_progress: OnProgress, is_cancelled: IsCancelled) -> DiskResult:
            image = run_on_disk(plan, lambda at, note: post.noted.emit(str(at), note), on_progress, is_cancelled)
            return DiskResult(image, label_on_disk(plan, image, on_progress, is_cancelled))

        return work

    def can_go_on(self, plan: DiskPlan) -> bool:
        """Whether the same was begun and stopped."""
        return self._paused is not None and self._paused.is_same_as(plan)

    def _on_note(self, target: str, note: str) -> None:
        """The unfinished result is there: show it."""
        if self._plan is None:
            return
        if self._plan.target != Path(target) or not self._is_shown():
            self._plan = replace(self._plan, target=Path(target))
            self._show(is_complete=False)
        self.noted.emit(note)

    def refresh(self) -> None:
        """Look at what was written since; not too often."""
        if self._plan is None or not self._is_shown():
            return
        now = time.monotonic()
        if self._layer.visible and now - self._refreshed >= _REFRESH_EVERY_S:
            self._layer.refresh(extent=False)
            self._refreshed = time.monotonic()

    def finish(self, result: DiskResult) -> str:
        """Show the finished result, or keep in mind how to go on; a sentence on what came of it."""
        plan, self._plan = self._plan, None
        assert plan is not None
        if not result.last.is_complete:
            return self._pause(plan, result)
        self._plan = replace(plan, target=result.image.target)
        self._show(is_complete=True)
        if result.labels is not None:
            self._show_labels(result.labels.target)
        self._plan = None
        told = [f"Done: {quoted([str(self._layer.name)])}, read from {result.image.target}."]
        if result.labels is not None:
            told += [_objects_line(result.labels.target), *result.labels.warnings]
        return " ".join([*told, *result.image.warnings, NOT_QUANTITATIVE])

    def release(self) -> None:
        """The dock goes: show nothing more."""
        self._plan = self._paused = None

    def fail(self) -> None:
        """The run broke; what is written stays, and the same run goes on."""
        if self._plan is not None and self._plan.target is not None:
            self._paused = self._plan
        self._plan = None

    def _pause(self, plan: DiskPlan, result: DiskResult) -> str:
        self._paused = replace(plan, target=result.image.target)
        if self._is_shown():
            self._layer.refresh(extent=False)
        left = result.last
        return (
            f"Stopped: {left.n_done} of {left.n_total} blocks are done and kept in "
            f"{large_images.partial_of(left.target)}. Press Go on to do the rest."
        )

    def _is_shown(self) -> bool:
        return self._layer is not None and self._layer in self._viewer.layers

    def _show(self, *, is_complete: bool) -> None:
        data, kwargs, _ = _layer_of(self._plan, is_complete)
        if self._is_shown():
            self._layer.data = data
            self._layer.metadata = {**self._layer.metadata, **kwargs["metadata"]}
            if is_complete and " (partial)" in str(self._layer.name):  # else the user gave it another name
                self._layer.name = kwargs["name"]
        else:
            self._layer = self._viewer.add_image(data, **kwargs)
        self._layer.refresh(extent=False)
        self._refreshed = time.monotonic()
        self.shown.emit(self._layer)

    def _show_labels(self, target: Path) -> None:
        from napari_cellenhance.io.ome_zarr import open_store

        assert self._plan is not None
        made = dict(open_store(target).provenance or {})
        data, kwargs, _ = _stored_layer(self._plan, target, made, is_labels=True)
        self._viewer.add_labels(data, **kwargs)


def _objects_line(target: Path) -> str:
    from napari_cellenhance.io.ome_zarr import open_store

    n = (open_store(target).provenance or {}).get("n_objects", 0)
    return f"{n} object{'' if n == 1 else 's'}, read from {target}."


def _layer_of(plan: DiskPlan | None, is_complete: bool) -> LayerTuple:
    """Levels of the result as a layer with the place and look of its source."""
    from napari_cellenhance.io.ome_zarr import open_store, reopen_store
    from napari_cellenhance.workflows.large_views import axes_of_store, growing_levels

    assert plan is not None and plan.target is not None
    if is_complete:
        return _stored_layer(plan, plan.target, dict(open_store(plan.target).provenance or {}))
    store = reopen_store(large_images.partial_of(plan.target))
    axes_out, order = _order_of(plan, axes_of_store(store))
    return _placed_layer(plan, plan.target, growing_levels(store, order), axes_out, {}, is_complete=False)


def _stored_layer(plan: DiskPlan, target: Path, made: dict[str, Any], *, is_labels: bool = False) -> LayerTuple:
    from napari_cellenhance.io.ome_zarr import open_store
    from napari_cellenhance.workflows.large_views import stored_levels

    axes_out, order = _order_of(plan, open_store(target).axes)
    levels = stored_levels(target, order)
    return _placed_layer(plan, target, levels, axes_out, made, is_complete=True, is_labels=is_labels)


def _order_of(plan: DiskPlan, axes_stored: str) -> tuple[str, tuple[int | None, ...]]:
    axes_out, _ = order_in_layer(plan.choices.axes, axes_stored, None)
    _, put_back = placed(plan.view, plan.choices, axes_out)
    return axes_out, order_in_layer(plan.choices.axes, axes_stored, put_back)[1]


def _placed_layer(
    plan: DiskPlan,
    target: Path,
    levels: list[LevelView],
    axes_out: str,
    made: dict[str, Any],
    *,
    is_complete: bool,
    is_labels: bool = False,
) -> LayerTuple:
    """Levels as a layer with the place and look of the source."""
    record = {**made, "stored_in": str(target), "axes_out": axes_out}
    pixel = np.zeros((1,) * len(axes_out), np.float32)  # stands for the image; its levels take its place below
    result = EnhanceResult(
        image=pixel, axes=axes_out, provenance=record, is_complete=is_complete,
        labels=pixel.astype(np.uint32) if is_labels else None,
    )  # fmt: skip
    _, kwargs, kind = result_layers(result, plan.view, plan.choices)[1 if is_labels else 0]
    kwargs["metadata"] = {METADATA_KEY: record | {"is_complete": is_complete}}
    kwargs |= {"multiscale": len(levels) > 1, "cache": False}
    return (levels if len(levels) > 1 else levels[0]), kwargs, kind
