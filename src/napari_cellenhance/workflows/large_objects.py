"""An image larger than memory, and its objects: one after the other, both resumed."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.object_pieces import ObjectOptions
from napari_cellenhance.workflows import catalog, large_images, large_labels
from napari_cellenhance.workflows._grey_filter import GreyFilter
from napari_cellenhance.workflows._segment_filter import SegmentFilter
from napari_cellenhance.workflows.large_images import LargeRequest, LargeResult, OnNote
from napari_cellenhance.workflows.large_labels import LabelRule, LargeLabelsRequest
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, never_cancelled, no_progress
from napari_cellenhance.workflows.strength_maps import strength_of

if TYPE_CHECKING:
    from napari_cellenhance.workflows._segmenters import InstanceOptions
    from napari_cellenhance.workflows.requests import SegmentOptions

__all__ = ["classes_request", "is_made", "labels_by_threshold", "labels_of_classes", "run"]


def labels_by_threshold(image: LargeRequest, target: str | Path, options: SegmentOptions) -> LargeLabelsRequest:
    """Objects of an enhanced image, as of one in memory.

    Raises
    ------
    ParameterError
        What needs all pixels at once, or a name that is no OME-Zarr.
    """
    if image.is_tiff:
        raise ParameterError(
            f"labels of a large image are made of an OME-Zarr; {image.target} is a TIFF: name an OME-Zarr"
        )
    rule = LabelRule(method=options.method, value=options.threshold)  # type: ignore[arg-type]  # li is refused there
    objects = ObjectOptions(split_touching=options.split_touching, min_size_px=options.min_size_px)
    return _beside(image, target, rule, objects)


def classes_request(image: LargeRequest, model_id: str, options: InstanceOptions | None, target: Path) -> LargeRequest:
    """Segment a large image instead of enhancing it.

    Parameters
    ----------
    image : LargeRequest
        What is the same for both.
    model_id : str
        A model of AEP or VoidSeg.
    options : InstanceOptions or None
        None: the classes; else where its objects are.
    target : Path
    """
    asked = SegmentFilter(model_id=model_id)
    if options is not None and (limit := _threshold(model_id, options)) is not None:
        asked = SegmentFilter(model_id=model_id, object_value=options.object_value, threshold=limit)
    settings = dataclasses.replace(image.settings, filter_id=asked.filter_id, strength=None)
    return dataclasses.replace(image, settings=settings, dtype="uint8", target=target)


def labels_of_classes(
    classes: LargeRequest, target: str | Path, model_id: str, options: InstanceOptions
) -> LargeLabelsRequest:
    """Objects of what :func:`classes_request` makes, as of a plane in memory.

    Raises
    ------
    ParameterError
        What needs all of a plane.
    """
    from napari_cellenhance.workflows.segment_model import card_of_segmenter

    if options.grow_px:
        raise ParameterError("objects of a large image do not grow into borders yet; leave --grow out")
    is_aep = card_of_segmenter(model_id).recipe == "aep"
    is_cut = options.method == "watershed" or (options.method == "auto" and is_aep)
    is_plain = not is_aep and not is_cut  # VoidSeg: what hangs together by edges
    objects = ObjectOptions(
        split_touching=is_cut, min_size_px=options.min_size_px, fills_holes=not is_plain, has_diagonals=not is_plain
    )
    is_mask = _threshold(model_id, options) is not None
    return _beside(classes, target, LabelRule(method="class", value=1 if is_mask else options.object_value), objects)


def _threshold(model_id: str, options: InstanceOptions) -> float | None:
    from napari_cellenhance.workflows._segmenters import threshold_of
    from napari_cellenhance.workflows.segment_model import card_of_segmenter

    return threshold_of(card_of_segmenter(model_id), options)


def _beside(image: LargeRequest, target: str | Path, rule: LabelRule, objects: ObjectOptions) -> LargeLabelsRequest:
    return LargeLabelsRequest(
        source=image.target, target=target, rule=rule, objects=objects, chunk_px=image.chunk_px, version=image.version,
        memory_limit_mb=image.settings.memory_limit_mb, overwrite=image.overwrite, cluster=image.cluster,
    )  # fmt: skip


def run(
    image: LargeRequest,
    labels: LargeLabelsRequest,
    *,
    keeps_image: bool = True,
    on_progress: OnProgress = no_progress,
    on_note: OnNote = lambda note: None,
    is_cancelled: IsCancelled = never_cancelled,
) -> tuple[LargeResult, LargeResult | None]:
    """Make the image, then its labels; what an earlier run has finished is left as it is.

    Parameters
    ----------
    image, labels
        ``labels.source`` is the target of ``image``.
    keeps_image : bool
        False: it is only there for its objects, and removed after them.

    Returns
    -------
    tuple
        Of the image, and of the labels; None where the image was not finished.

    Raises
    ------
    CellEnhanceError
        As of :func:`napari_cellenhance.workflows.large_images.run` and
        :func:`napari_cellenhance.workflows.large_labels.run`.
    """
    if is_made(image):
        on_note(f"{image.target} is there already, made in the same way.")
        made = LargeResult(target=Path(image.target), is_complete=True, n_done=0, n_total=0)
    else:
        made = large_images.run(image, on_progress=on_progress, on_note=on_note, is_cancelled=is_cancelled)
    if not made.is_complete:
        return made, None
    found = large_labels.run(labels, on_progress=on_progress, on_note=on_note, is_cancelled=is_cancelled)
    if found.is_complete and not keeps_image:
        shutil.rmtree(image.target)
    return made, found


def is_made(request: LargeRequest) -> bool:
    """Whether the result is there, complete, of the same source by the same filter."""
    from napari_cellenhance.io.lazy_images import LazyImage, open_lazily
    from napari_cellenhance.io.ome_zarr import open_store
    from napari_cellenhance.workflows._large_source import LargeSource

    if request.overwrite or not Path(request.target).exists() or isinstance(request.source, LazyImage):
        return False
    try:
        record: Mapping[str, Any] = open_store(request.target).provenance or {}
    except ImageError:
        return False
    settings, spec = request.settings, catalog.describe(request.settings.filter_id)
    with open_lazily(request.source) as image:
        sample = LargeSource(image, settings).sample()
    wanted: dict[str, Any] = {
        "version": spec.version, "sha256": spec.sha256, "statistics": settings.statistics,
        "objects_are_dark": settings.objects_are_dark, "is_complete": True,
    }  # fmt: skip
    if request.is_labels:
        wanted["large"] = dataclasses.asdict(SegmentFilter.of(spec.info.id))
    elif request.is_grey:
        wanted["large"] = dataclasses.asdict(GreyFilter.of(spec.info.id))
    else:
        wanted |= {"filter": spec.info.id, "strength": strength_of(settings, spec)}
    source = record.get("source")
    is_same_source = isinstance(source, Mapping) and source.get("sha256") == sample
    return is_same_source and all(record.get(name) == value for name, value in wanted.items())
