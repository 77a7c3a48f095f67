"""Denoise, restore or separate an image larger than memory, in its own grey values, as :mod:`large_images` enhances."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from napari_cellenhance.core.errors import TargetExistsError
from napari_cellenhance.workflows._grey_filter import GreyFilter, GreyStep, describe_grey
from napari_cellenhance.workflows.large_images import DEFAULT_CHUNK_PX, LargeRequest
from napari_cellenhance.workflows.large_objects import is_made
from napari_cellenhance.workflows.requests import MEMORY_LIMIT_MB, EnhanceRequest

if TYPE_CHECKING:
    from napari_cellenhance.io.ome_zarr import OmeZarrVersion
    from napari_cellenhance.workflows.cluster import Cluster
    from napari_cellenhance.workflows.denoise import DenoiseRequest
    from napari_cellenhance.workflows.restore import RestoreRequest
    from napari_cellenhance.workflows.separate import SeparateRequest

__all__ = ["grey_request", "is_there", "uncertainty_of"]


def grey_request(
    source: str,
    target: str,
    settings: DenoiseRequest | RestoreRequest | SeparateRequest,
    step: GreyStep,
    *,
    n_times: int = 1,
    dtype: Literal["float32", "same"] = "float32",
    memory_limit_mb: int = MEMORY_LIMIT_MB,
    chunk_px: int = DEFAULT_CHUNK_PX,
    version: OmeZarrVersion = "0.5",
    overwrite: bool = False,
    cluster: Cluster | None = None,
) -> LargeRequest:
    """What is asked of an image in memory, asked of one that is larger.

    Parameters
    ----------
    settings
        Axes, channels, statistics, device and precision count, the side of a tile, and the model.
    n_times : int
        Symmetries of a denoiser, or applications of a restoration.

    Raises
    ------
    ModelNotFoundError
        No such model.
    ParameterError
        A model of volumes, of several channels, or of what moves; a target that cannot be written block by block.
    """
    model_id = settings.model_id
    if model_id.endswith(".json"):  # processes of a cluster have working folders of their own
        model_id = os.path.abspath(model_id)
    asked = GreyFilter(step=step, model_id=model_id, n_times=n_times)
    card = describe_grey(asked.filter_id).card
    # As in memory: what brings planes to the range of such a network was stored, and each has its own percentiles.
    is_stored = step == "denoise" and card is not None and card.architecture.get("statistics", "stored") == "stored"
    return LargeRequest(
        source=source, target=target, dtype=dtype, chunk_px=chunk_px, version=version, overwrite=overwrite,
        cluster=cluster,
        settings=EnhanceRequest(
            image=None, axes=settings.axes, filter_id=asked.filter_id, channels=settings.channels,
            statistics="plane" if is_stored else settings.statistics, device=settings.device,
            precision=settings.precision, tile_px=settings.tile_px, memory_limit_mb=memory_limit_mb,
            cache_folder=settings.cache_folder,
        ),
    )  # fmt: skip


def uncertainty_of(image: LargeRequest) -> LargeRequest | None:
    """Of a restoration how sure it is of each pixel, beside the image; None where the model does not know."""
    asked = GreyFilter.of(image.settings.filter_id)
    if not asked.card().architecture.get("is_probabilistic"):
        return None
    target = Path(str(image.target).rstrip("/"))
    stem = target.name.removesuffix(target.suffix)
    ending = f"{'.ome' if stem.endswith('.ome') else ''}{target.suffix}"
    return dataclasses.replace(
        image, target=target.with_name(f"{stem.removesuffix('.ome')}_uncertainty{ending}"), dtype="float32",
        settings=dataclasses.replace(
            image.settings, filter_id=dataclasses.replace(asked, shows="uncertainty").filter_id
        ),
    )  # fmt: skip


def is_there(image: LargeRequest, beside: LargeRequest) -> bool:
    """Whether the image is complete, so that only what lies beside it is to be made.

    Raises
    ------
    TargetExistsError
        A file or folder of the name of the second, before the first is begun.
    """
    if Path(beside.target).exists() and not beside.overwrite:
        raise TargetExistsError(f"{beside.target} exists already; choose another name, or allow overwriting")
    return is_made(image)
