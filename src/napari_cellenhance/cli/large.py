"""Images larger than memory, enhanced, denoised, segmented: OME-Zarr or TIFF in, OME-Zarr or tiled OME-TIFF out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from napari_cellenhance.cli.words import ProgressLine, leave, stoppable
from napari_cellenhance.core.errors import ParameterError

if TYPE_CHECKING:
    from napari_cellenhance.workflows._grey_filter import GreyStep
    from napari_cellenhance.workflows.cluster import Cluster
    from napari_cellenhance.workflows.denoise import DenoiseRequest
    from napari_cellenhance.workflows.large_images import LargeRequest, LargeResult
    from napari_cellenhance.workflows.large_labels import LargeLabelsRequest
    from napari_cellenhance.workflows.requests import EnhanceRequest
    from napari_cellenhance.workflows.restore import RestoreRequest
    from napari_cellenhance.workflows.segment_model import SegmentModelRequest
    from napari_cellenhance.workflows.separate import SeparateRequest

__all__ = ["enhance_large", "grey_large", "is_large", "segment_large"]


def is_large(sources: Sequence[str], target: str) -> bool:
    """Whether a source or the target is a Zarr store: these are worked on block by block.

    >>> is_large(["cells.tif"], "out.ome.zarr/"), is_large(["cells.tif"], "out.ome.tif")
    (True, False)
    """
    from napari_cellenhance.io.lazy_images import is_zarr

    # An image inside a plate has no ending of its own.
    return any(Path(path).suffix.lower() == ".zarr" for path in (*sources, target)) or any(map(is_zarr, sources))


def enhance_large(
    sources: Sequence[str],
    target: str,
    settings: EnhanceRequest,
    *,
    dtype: Literal["float32", "uint8", "uint16"] | None,
    chunk_px: int | None,
    version: Literal["0.4", "0.5"],
    overwrite: bool,
    quiet: bool,
    cluster: Cluster | None = None,
    labels: str | None = None,
) -> None:
    """Run the workflow, with notes and progress on the standard error."""
    from napari_cellenhance.workflows import large_images, large_objects

    sides = {} if chunk_px is None else {"chunk_px": chunk_px}
    options = settings.segment
    request = large_images.LargeRequest(
        source=_only_one(sources), target=target, settings=replace(settings, segment=None), dtype=dtype,
        version=version, overwrite=overwrite, cluster=cluster, **sides,
    )  # fmt: skip
    if labels is None or options is None:
        _run(request, None, quiet=quiet)
    else:
        _run(request, large_objects.labels_by_threshold(request, labels, options), quiet=quiet)


def segment_large(
    sources: Sequence[str],
    target: str,
    settings: SegmentModelRequest,
    *,
    output: Literal["auto", "classes", "instances"],
    instances: str | None,
    memory_limit_mb: int,
    chunk_px: int | None,
    overwrite: bool,
    quiet: bool,
    cluster: Cluster | None = None,
) -> None:
    """Classes, or numbered objects, of a large image."""
    from napari_cellenhance.workflows import large_images, large_objects
    from napari_cellenhance.workflows.requests import EnhanceRequest
    from napari_cellenhance.workflows.segment_model import card_of_segmenter, is_of_objects

    model_id, options = settings.model_id, settings.instances
    if output == "auto":
        output = "instances" if is_of_objects(card_of_segmenter(model_id)) else "classes"
    asked = EnhanceRequest(
        image=None, axes=settings.axes, channels=settings.channels, statistics=settings.statistics,
        device=settings.device, precision=settings.precision, tile_px=settings.tile_px,
        memory_limit_mb=memory_limit_mb,
    )  # fmt: skip
    same = large_images.LargeRequest(
        source=_only_one(sources), target=target, settings=asked, overwrite=overwrite, cluster=cluster
    )
    if chunk_px is not None:
        same = replace(same, chunk_px=chunk_px)
    if output == "classes":
        classes = large_objects.classes_request(same, model_id, None, Path(target))
        is_enough = large_objects.classes_request(same, model_id, options, Path(target)) == classes
        if instances is not None and is_enough:  # objects of the most probable class: the network runs once
            _run(classes, large_objects.labels_of_classes(classes, instances, model_id, options), quiet=quiet)
            return
        _run(classes, None, quiet=quiet)
        if instances is None:
            return
    wanted = Path(target if output == "instances" else str(instances))
    pieces = large_objects.classes_request(same, model_id, options, wanted.with_name(f".{wanted.name}.classes.zarr"))
    found = large_objects.labels_of_classes(pieces, wanted, model_id, options)
    _run(pieces, found, keeps_image=False, quiet=quiet)


def grey_large(
    sources: Sequence[str],
    target: str,
    settings: DenoiseRequest | RestoreRequest | SeparateRequest,
    *,
    step: GreyStep,
    n_times: int = 1,
    has_uncertainty: bool = False,
    dtype: Literal["float32", "same"],
    memory_limit_mb: int,
    chunk_px: int | None,
    version: Literal["0.4", "0.5"],
    overwrite: bool,
    quiet: bool,
    cluster: Cluster | None = None,
) -> None:
    """Denoise, restore or separate a large image, in its own grey values; of a restoration the uncertainty, too."""
    from napari_cellenhance.workflows import large_grey, large_images

    request = large_grey.grey_request(
        _only_one(sources), target, settings, step, n_times=n_times, dtype=dtype, memory_limit_mb=memory_limit_mb,
        version=version, overwrite=overwrite, cluster=cluster, chunk_px=chunk_px or large_images.DEFAULT_CHUNK_PX,
    )  # fmt: skip
    beside = large_grey.uncertainty_of(request) if has_uncertainty else None
    if beside is None:
        _run(request, None, quiet=quiet)
        return
    if not quiet:
        typer.echo(
            f"note: The uncertainty goes to {beside.target}, by a second pass through the network; --no-uncertainty "
            "leaves it out.",
            err=True,
        )
    if not large_grey.is_there(request, beside):
        _run(request, None, quiet=quiet)
    elif not quiet:
        typer.echo(f"note: {target} is there already, made in the same way.", err=True)
    _run(beside, None, quiet=quiet, has_recipe=False)


def _only_one(sources: Sequence[str]) -> str:
    from napari_cellenhance.io.lazy_images import is_zarr

    if len(sources) != 1:
        raise ParameterError(f"{len(sources)} images were named for one result; expected one image at a time")
    if Path(sources[0]).is_dir() and not is_zarr(sources[0]):
        raise ParameterError(f"{sources[0]} is a folder of images, or no Zarr store; use 'cellenhance batch' for many")
    return sources[0]


def _run(
    image: LargeRequest,
    labels: LargeLabelsRequest | None,
    *,
    quiet: bool,
    keeps_image: bool = True,
    has_recipe: bool = True,
) -> None:
    from napari_cellenhance.workflows import large_images, large_objects
    from napari_cellenhance.workflows.recipe_files import keep_recipe_beside

    def note(text: str) -> None:
        if not quiet:
            line.clear()
            typer.echo(f"note: {text}", err=True)

    found: LargeResult | None = None
    with ProgressLine(quiet) as line, stoppable() as is_cancelled:
        if labels is None:
            made = large_images.run(image, on_progress=line.show, on_note=note, is_cancelled=is_cancelled)
        else:
            made, found = large_objects.run(
                image, labels, keeps_image=keeps_image, on_progress=line.show, on_note=note, is_cancelled=is_cancelled
            )
    told = keep_recipe_beside(made.target) if made.is_complete and keeps_image and has_recipe else ()
    last = made if found is None else found
    for warning in dict.fromkeys((*made.warnings, *told, *(() if found is None else found.warnings))):
        note(warning)
    if not last.is_complete:
        note(f"{last.n_done} of {last.n_total} blocks are done; run the same command again to go on.")
    leave(is_stopped=not last.is_complete)
    if not quiet:
        written = [made.target] if keeps_image else []
        typer.echo(", ".join(map(str, [*written, *([] if found is None else [found.target])])))
