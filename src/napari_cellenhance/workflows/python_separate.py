"""Keeping only what is wanted, from Python; the same workflow as that of the dock and the command line."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from napari_cellenhance.core.postprocess import CleanOptions
from napari_cellenhance.workflows.python_api import axes_of, channels_of
from napari_cellenhance.workflows.separate import SeparateRequest

__all__ = ["separate", "train_semantic"]


def separate(
    image: Any,
    model: str,
    *,
    axes: str | None = None,
    is_rgb: bool = False,
    channels: Literal["all", "grey"] | int | Sequence[int] = "all",
    statistics: Literal["plane", "stack"] = "stack",
    objects: CleanOptions | None = None,
    device: str = "auto",
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
    tile_px: int | None = None,
    earlier: Mapping[str, Any] | None = None,
    with_record: bool = False,
) -> Any:
    """Take an image apart with a semantic filter: what is wanted, all else, and the objects.

    Parameters
    ----------
    image : array-like of shape (…, Y, X), or (…, Y, X, 3 or 4) with ``is_rgb``
        numpy, dask or zarr; never written to.
    model : str
        A semantic filter, see ``cellenhance models list``; or the path of a card that a training left.
    axes, is_rgb, channels, device, precision, tile_px, earlier, with_record
        As for :func:`napari_cellenhance.enhance`.
    statistics : "stack" or "plane"
        Grey values of the whole stack, or of each plane by itself.
    objects : CleanOptions, optional
        Number the objects of what is wanted, in this way; default: look for none.

    Returns
    -------
    target, remainder : ndarray of float32
        In the grey values of the image; its shape, less channels or colours that were averaged.
    labels : ndarray of uint32 or None
        The objects, numbered anew in each plane; without channels.
    record : dict
        Only with ``with_record``.

    Raises
    ------
    ModelNotFoundError
        No semantic filter of that id.
    AxesError, ImageError, ParameterError
        Axes or settings that do not fit the image or the model.

    Warns
    -----
    UserWarning
        What the workflow remarks, such as planes of a single grey value.
    """
    from napari_cellenhance.workflows.separate import run

    pixels = image if hasattr(image, "shape") else np.asarray(image)
    request = SeparateRequest(
        image=pixels, axes=axes_of(pixels, axes, is_rgb), model_id=model, channels=channels_of(channels),
        statistics=statistics, has_objects=objects is not None, objects=objects, device=device, precision=precision,
        tile_px=tile_px, earlier=earlier,
    )  # fmt: skip
    result = run(request)
    for sentence in result.warnings:
        warnings.warn(sentence, UserWarning, stacklevel=2)
    found = (result.target, result.remainder, result.labels)
    return (*found, result.provenance) if with_record else found


def train_semantic(
    data: Any,
    out: str | os.PathLike[str],
    *,
    axes: str | None = None,
    channels: Literal["all", "grey"] | int | Sequence[int] = "grey",
    model_id: str = "semantic-custom",
    init_from: str | None = None,
    n_steps: int = 1500,
    seed: int = 0,
    resume: bool = False,
    **settings: Any,
) -> str:
    """Train a semantic filter on crops of wanted and unwanted objects, or on movies of a scene that stands still.

    Parameters
    ----------
    data : path, CropSet, array-like of shape (T, …, Y, X), or list of arrays
        A folder of crops, or crops in memory (``napari_cellenhance.core.crops``): the filter keeps one kind of object.
        Movies: it removes what moves.
    out : path
        Folder for weights, card, curves and checkpoint; made if missing.
    axes, channels
        Of movies in memory, as for :func:`napari_cellenhance.enhance`. Crops know theirs.
    model_id : str
        Name for ``separate(…, model)``.
    init_from : str, optional
        Semantic filter to start from. Default: random weights.
    n_steps, seed, resume
        Updates, random numbers, and whether to go on from the checkpoint in ``out``.
    **settings
        Further fields of :class:`napari_cellenhance.workflows.train_semantic.SemanticRequest`, such as ``lag=3``.

    Returns
    -------
    str
        Id of the model.

    Raises
    ------
    ImageError
        Crops of one kind only; a movie that is too short or too small.
    AxesError, ParameterError
        Axes or settings that do not fit.
    TrainingError
        The loss was no number before anything was learned.
    """
    from napari_cellenhance.core.crops import CropSet
    from napari_cellenhance.workflows.train_semantic import NoisyLayer, SemanticRequest, run

    known = data
    if not isinstance(data, CropSet | str | os.PathLike):
        movies = data if isinstance(data, list | tuple) else [data]
        known = tuple(
            NoisyLayer(name=f"movie {i}", image=movie, axes=axes_of(movie, axes, False), channels=channels_of(channels))
            for i, movie in enumerate(movies, start=1)
        )
    request = SemanticRequest(
        data=known, out=out, init_from=init_from, model_id=model_id, n_steps=n_steps, seed=seed, resume=resume,
        **settings,
    )  # fmt: skip
    return run(request).model_id
