"""Enhancing an image larger than memory, from OME-Zarr or TIFF to OME-Zarr or tiled OME-TIFF."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from napari_cellenhance.cli.words import ProgressLine, leave, stoppable
from napari_cellenhance.core.errors import ParameterError

if TYPE_CHECKING:
    from napari_cellenhance.workflows.cluster import Cluster
    from napari_cellenhance.workflows.requests import EnhanceRequest

__all__ = ["enhance_large", "is_large"]


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
) -> None:
    """Run the workflow, with notes and progress on the standard error."""
    from napari_cellenhance.io.lazy_images import is_zarr
    from napari_cellenhance.workflows import large_images
    from napari_cellenhance.workflows.recipe_files import keep_recipe_beside

    if len(sources) != 1:
        raise ParameterError(f"{len(sources)} images were named for one result; expected one image at a time")
    if Path(sources[0]).is_dir() and not is_zarr(sources[0]):
        raise ParameterError(f"{sources[0]} is a folder of images, or no Zarr store; use 'cellenhance batch' for many")
    sides = {} if chunk_px is None else {"chunk_px": chunk_px}
    request = large_images.LargeRequest(
        source=sources[0], target=target, settings=settings, dtype=dtype, version=version, overwrite=overwrite,
        cluster=cluster, **sides,
    )  # fmt: skip

    def note(text: str) -> None:
        if not quiet:
            line.clear()
            typer.echo(f"note: {text}", err=True)

    with ProgressLine(quiet) as line, stoppable() as is_cancelled:
        result = large_images.run(request, on_progress=line.show, on_note=note, is_cancelled=is_cancelled)
    told = keep_recipe_beside(result.target) if result.is_complete else ()
    for warning in dict.fromkeys((*result.warnings, *told)):
        note(warning)
    if not result.is_complete:
        note(f"{result.n_done} of {result.n_total} blocks are done; run the same command again to go on.")
    leave(is_stopped=not result.is_complete)
    if not quiet:
        typer.echo(str(result.target))
