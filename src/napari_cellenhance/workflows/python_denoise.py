"""Denoising, and learning to, from Python; the same workflows as those of the dock and the command line."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from napari_cellenhance.workflows.denoise import DEFAULT_DENOISER, DenoiseRequest
from napari_cellenhance.workflows.python_api import axes_of, channels_of

__all__ = ["denoise", "train_n2v"]


def denoise(
    image: Any,
    model: str = DEFAULT_DENOISER,
    *,
    axes: str | None = None,
    is_rgb: bool = False,
    channels: Literal["all", "grey"] | int | Sequence[int] = "all",
    statistics: Literal["plane", "stack"] = "stack",
    symmetries: Literal[1, 8] = 1,
    device: str = "auto",
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
    tile_px: int | None = None,
    earlier: Mapping[str, Any] | None = None,
    with_record: bool = False,
) -> Any:
    """Remove the noise of an image; its grey values keep their meaning.

    Parameters
    ----------
    image : array-like of shape (…, Y, X), or (…, Y, X, 3 or 4) with ``is_rgb``
        numpy, dask or zarr; never written to.
    model : str
        A denoiser, see ``cellenhance models list``; or the path of a card that a training left.
    axes, is_rgb, channels, device, precision, tile_px, earlier, with_record
        As for :func:`napari_cellenhance.enhance`.
    statistics : "stack" or "plane"
        For models for images of many kinds: the grey values of the whole stack, or of each plane by itself.
    symmetries : 1 or 8
        8: the mean over all turned and flipped versions; eight times slower, and a little better.

    Returns
    -------
    ndarray of float32
        In the grey values of the image, not clipped; its shape, less channels or colours that were averaged. With
        ``with_record`` a tuple of this and a dict.

    Raises
    ------
    ModelNotFoundError
        No denoiser of that id.
    AxesError, ImageError, ParameterError
        Axes or settings that do not fit the image or the model.
    """
    from napari_cellenhance.workflows.denoise import run

    request = DenoiseRequest(
        image=image, axes=axes_of(image, axes, is_rgb), model_id=model, channels=channels_of(channels),
        statistics=statistics, symmetries=symmetries, device=device, precision=precision, tile_px=tile_px,
        earlier=earlier,
    )  # fmt: skip
    result = run(request)
    for warning in result.warnings:
        warnings.warn(warning, stacklevel=2)
    return (result.image, result.provenance) if with_record else result.image


def train_n2v(
    images: Any,
    out: str | os.PathLike[str],
    *,
    init_from: str | None = None,
    axes: str | None = None,
    is_rgb: bool = False,
    channels: Literal["all", "grey"] | int | Sequence[int] = "all",
    model_id: str = "n2v-custom",
    n_steps: int = 1500,
    seed: int = 0,
    resume: bool = False,
    **settings: Any,
) -> str:
    """Train a denoiser on noisy images in memory; no clean image is needed.

    Parameters
    ----------
    images : array-like of shape (…, Y, X), or list of them
        All with the same order of axes and the same channels.
    out : path
        Folder for weights, card, curves and checkpoint; made if missing.
    init_from : str, optional
        Denoiser to start from, such as "n2v2-fluorescence". Default: random weights.
    axes, is_rgb, channels
        As for :func:`napari_cellenhance.enhance`.
    model_id : str
        Name for ``denoise(…, model=…)`` and ``enhance(…, model=…)``.
    n_steps, seed, resume
        Updates, random numbers, and whether to go on from the checkpoint in ``out``.
    **settings
        Further fields of :class:`napari_cellenhance.workflows.train_n2v.N2VRequest`, such as ``variant="n2v"``,
        ``n_dims=3`` or ``structure="horizontal", reach_px=2``.

    Returns
    -------
    str
        Id of the model.

    Raises
    ------
    ImageError
        No contrast, an image that is too small, other channels.
    AxesError, ParameterError
        Axes or settings that do not fit.
    TrainingError
        The loss was no number before anything was learned.
    """
    from napari_cellenhance.workflows.train_n2v import N2VRequest, NoisyLayer, run

    pictures = list(images) if isinstance(images, list | tuple) else [images]
    layers = tuple(
        NoisyLayer(
            name=f"image {i}", image=picture, axes=axes_of(picture, axes, is_rgb), channels=channels_of(channels)
        )
        for i, picture in enumerate(pictures, start=1)
    )
    request = N2VRequest(
        data=layers, out=out, init_from=init_from, model_id=model_id, n_steps=n_steps, seed=seed, resume=resume,
        **settings,
    )  # fmt: skip
    return run(request).model_id
