"""Restoring, and learning to, from Python; the same workflows as those of the dock and the command line."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from napari_cellenhance.workflows.care_pairs import PairedLayers
from napari_cellenhance.workflows.python_api import axes_of, channels_of
from napari_cellenhance.workflows.restore import RestoreRequest

__all__ = ["restore", "train_care"]


def restore(
    image: Any,
    model: str,
    *,
    axes: str | None = None,
    is_rgb: bool = False,
    channels: Literal["all", "grey"] | int | Sequence[int] = "all",
    statistics: Literal["plane", "stack"] = "stack",
    repeats: int = 1,
    device: str = "auto",
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
    tile_px: int | None = None,
    earlier: Mapping[str, Any] | None = None,
    with_record: bool = False,
) -> Any:
    """Restore an image with a trained CARE network, and tell how sure it is of every pixel.

    Parameters
    ----------
    image : array-like of shape (…, Y, X), or (…, Y, X, 3 or 4) with ``is_rgb``
        numpy, dask or zarr; never written to.
    model : str
        A restoration, see ``cellenhance models list``; or the path of a card that a training left.
    axes, is_rgb, channels, device, precision, tile_px, earlier, with_record
        As for :func:`napari_cellenhance.enhance`.
    statistics : "stack" or "plane"
        Percentiles of the whole stack, or of each plane by itself.
    repeats : 1, 2 or 3
        Apply the network to its own result: sharper, but noise may become structure.

    Returns
    -------
    image : ndarray of float32
        In the grey values of the input, not clipped; its shape, less channels or colours that were averaged.
    uncertainty : ndarray of float32 or None
        Of the same shape and in the same grey values: scale σ of the Laplace distribution of every pixel, calibrated;
        half of the errors are below σ·ln 2. None of a network that was trained without likelihood.
    record : dict
        Only with ``with_record``.

    Raises
    ------
    ModelNotFoundError
        No restoration of that id.
    AxesError, ImageError, ParameterError
        Axes or settings that do not fit the image or the model.
    """
    from napari_cellenhance.workflows.restore import run

    request = RestoreRequest(
        image=image, axes=axes_of(image, axes, is_rgb), model_id=model, channels=channels_of(channels),
        statistics=statistics, repeats=repeats, device=device, precision=precision, tile_px=tile_px,
        earlier=earlier,
    )  # fmt: skip
    result = run(request)
    for warning in result.warnings:
        warnings.warn(warning, stacklevel=2)
    found = (result.image, result.uncertainty)
    return (*found, result.provenance) if with_record else found


def train_care(
    clean: Any,
    out: str | os.PathLike[str],
    *,
    poor: Any = None,
    axes: str | None = None,
    channels: Literal["all", "grey"] | int | Sequence[int] = "all",
    model_id: str = "care-custom",
    init_from: str | None = None,
    clean_scale: Literal["poor", "own"] = "poor",
    n_steps: int = 1000,
    seed: int = 0,
    resume: bool = False,
    **settings: Any,
) -> str:
    """Train a restoration on clean images in memory, made poor by a microscope on paper; or on real pairs.

    Parameters
    ----------
    clean : array-like of shape (…, Y, X), or list of them
        All with the same order of axes and the same channels.
    out : path
        Folder for weights, card, curves, drawn values and checkpoint; made if missing.
    poor : array-like or list of them, optional
        Real poor images of the same samples, in the same order and of the same shapes. Default: none, and pairs are
        made as ``synthesis`` says.
    axes, channels
        As for :func:`napari_cellenhance.enhance`.
    model_id : str
        Name for ``restore(…, model)``.
    init_from : str, optional
        Restoration to start from. Default: random weights.
    clean_scale : "poor" or "own"
        Bring each clean image to the grey values of its poor one, by least squares; or normalise each by its own
        percentiles, as published.
    n_steps, seed, resume
        Updates, random numbers, and whether to go on from the checkpoint in ``out``.
    **settings
        Further fields of :class:`napari_cellenhance.workflows.train_care.CareRequest`, such as ``n_dims=3`` or
        ``synthesis=Synthesis(optics=Optics(na=0.8, wavelength_um=0.52, pixel_um=0.2))`` (of
        ``napari_cellenhance.workflows.synthesize`` and ``napari_cellenhance.core.microscope``).

    Returns
    -------
    str
        Id of the model.

    Raises
    ------
    ImageError
        No contrast, an image that is too small, pairs that do not fit each other.
    AxesError, ParameterError
        Axes or settings that do not fit; no size of the pixels for the blur.
    TrainingError
        The loss was no number before anything was learned.
    """
    from napari_cellenhance.core.errors import ParameterError
    from napari_cellenhance.workflows.train_care import CareRequest, NoisyLayer, run

    def listed(images: Any) -> list[Any]:
        return list(images) if isinstance(images, list | tuple) else [images]

    def layer(what: str, number: int, image: Any) -> NoisyLayer:
        known = axes_of(image, axes, False)
        return NoisyLayer(name=f"{what} {number}", image=image, axes=known, channels=channels_of(channels))

    targets = [layer("image", i, image) for i, image in enumerate(listed(clean), start=1)]
    data: tuple[Any, ...] = tuple(targets)
    if poor is not None:
        sources = [layer("poor image", i, image) for i, image in enumerate(listed(poor), start=1)]
        if len(sources) != len(targets):
            raise ParameterError(f"there are {len(sources)} poor and {len(targets)} clean images; expected as many")
        data = tuple(PairedLayers(poor=a, clean=b) for a, b in zip(sources, targets, strict=True))
    request = CareRequest(
        data=data, out=out, init_from=init_from, model_id=model_id, clean_scale=clean_scale, n_steps=n_steps, seed=seed,
        resume=resume, **settings,
    )  # fmt: skip
    return run(request).model_id
