"""The public Python calls: an array in, the enhanced array out; arrays in, a trained model out."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from napari_cellenhance.core.axes import SAMPLES, guess_axes
from napari_cellenhance.core.errors import AxesError, ParameterError
from napari_cellenhance.workflows.requests import DEFAULT_FILTER, EnhanceRequest, StrengthMap

__all__ = ["axes_of", "channels_of", "enhance", "train_nunet"]


def enhance(
    image: Any,
    *,
    model: str = DEFAULT_FILTER,
    strength: float | Literal["auto"] | None = None,
    strength_map: Any = None,
    label_strengths: Mapping[int, float] | None = None,
    strength_edge_px: int = 0,
    axes: str | None = None,
    is_rgb: bool = False,
    objects_are_dark: bool = False,
    channels: Literal["all", "grey"] | int | Sequence[int] = "all",
    statistics: Literal["plane", "stack"] = "plane",
    device: str = "auto",
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
    tile_px: int | None = None,
    earlier: Mapping[str, Any] | None = None,
    with_record: bool = False,
) -> Any:
    """Enhance an image; the same pixels as the dock in napari and the command line give.

    Parameters
    ----------
    image : array-like of shape (…, Y, X)
        numpy, dask or zarr, any integer or real dtype; never written to.
    model : str
        Id of a model or of a classical filter, such as ``"nunet-guided"``, ``"nunet"`` or ``"dog"``.
    strength : float or "auto", optional
        Position of the slider; default: the filter's own. 0 returns the input unchanged. "auto" takes what the
        image itself suggests (networks only).
    strength_map : array-like of shape (Y, X), or that of the image, optional
        Strength by region, rounded to 1/40 of the slider (0.25 for a network); NaN where ``strength`` counts.
    label_strengths : mapping of int to float, optional
        Makes ``strength_map`` an image of labels: label → its strength; all others follow ``strength``.
    strength_edge_px : int
        Width over which regions fade into each other, in pixels.
    axes : str, optional
        One letter per dimension out of ``TCZYX``, plus ``S`` for the samples of a colour
        image. Default: guessed from the shape; three dimensions without colour are ``ZYX``.
    is_rgb : bool
        The last dimension holds red, green, blue (and alpha). Used where ``axes`` is not given.
    objects_are_dark : bool
        Invert the contrast first: the filters look for bright objects.
    channels : "all", "grey", int, or sequence of int
        Channels (or colours) to enhance; "grey" and a single one drop their axis.
    statistics : "plane" or "stack"
        Measure brightness and contrast for every plane, or once for the whole stack, which
        removes flicker along Z and T.
    device : str
        ``auto``, ``cpu``, ``cuda``, ``cuda:N``, ``mps`` or ``openvino``.
    precision : "auto", "float32" or "bfloat16"
        ``auto`` takes bfloat16 where the processor is fast at it.
    tile_px : int, optional
        Side of a tile, in pixels; default: from the available memory.
    earlier : mapping, optional
        Record of how the image itself was made, so that the chain of steps is known.
    with_record : bool
        Return how the result was made as well, as the last of a tuple; ready for JSON.

    Returns
    -------
    ndarray
        float32 in [0, 1], dimensions as ``image`` (less the channel axis where one channel or
        grey was asked); at strength 0 the input's own pixels and dtype. With
        ``with_record`` a tuple of this and a dict.

    Warns
    -----
    UserWarning
        Flat planes, pixels that are no numbers, a device that could not be used, or the same method applied again.

    Raises
    ------
    AxesError
        Axes that do not fit the shape, or a shape whose axes cannot be guessed.
    ImageError
        Complex, empty or all-NaN pixels.
    ParameterError
        A setting outside its range, a map that does not fit the image, or colour declared twice in contradiction.
    ModelNotFoundError
        No such filter; the message lists those there are.
    DownloadError, ChecksumError
        The weights cannot be had.
    DeviceError
        Unknown device, or too little memory even for small tiles.

    Examples
    --------
    >>> import numpy as np
    >>> from napari_cellenhance import enhance
    >>> image = np.arange(64.0).reshape(8, 8)
    >>> better = enhance(image, model="percentile-stretch")
    >>> better.shape, better.dtype
    ((8, 8), dtype('float32'))
    """
    from napari_cellenhance.workflows.enhance import run

    pixels = image if hasattr(image, "shape") else np.asarray(image)
    request = EnhanceRequest(
        image=pixels,
        axes=axes_of(pixels, axes, is_rgb),
        filter_id=model,
        strength=strength,
        strength_map=_map_of(strength_map, label_strengths, strength_edge_px),
        objects_are_dark=objects_are_dark,
        channels=channels_of(channels),
        statistics=statistics,
        device=device,
        precision=precision,
        tile_px=tile_px,
        earlier=earlier,
    )
    result = run(request)
    for sentence in result.warnings:
        warnings.warn(sentence, UserWarning, stacklevel=2)
    return (result.image, result.provenance) if with_record else result.image


def train_nunet(
    images: Any,
    out: str | os.PathLike[str],
    *,
    labels: Any = None,
    masks: Any = None,
    teach: Literal["images", "labels", "both"] | None = None,
    perception: str | os.PathLike[str] = "none",
    init_from: str | None = "nunet",
    axes: str | None = None,
    is_rgb: bool = False,
    objects_are_dark: bool = False,
    channels: Literal["all", "grey"] | int | Sequence[int] = "grey",
    object_diameter_px: float | None = None,
    model_id: str = "nunet-custom",
    n_steps: int = 400,
    learning_rate: float = 2e-4,
    seed: int = 0,
    resume: bool = False,
    **settings: Any,
) -> str:
    """Train a NU-Net on images in memory; the same training as that of the dock in napari and the command line.

    Parameters
    ----------
    images : array-like of shape (…, Y, X), or list of them
        All with the same order of axes.
    out : path
        Folder for weights, card, curves and checkpoint; made if missing.
    labels : array-like of int, or list of them, optional
        Painted objects of each image, 0 is ground; None in the list where there are none.
    masks : array-like of int, or list of them, optional
        Label images that show another morphology than round blobs.
    teach : "images", "labels" or "both", optional
        What to learn from. Default: labels where there are some, else images.
    perception : str or path
        Perceptual network: ``"squeezenet"`` or ``"torchvision"`` (its VGG-19), or a file of either or of a distilled
        VGG-19 (safetensors); not needed for ``"labels"``.
    init_from : str, optional
        Model to fine-tune; None begins with random weights, which takes thousands of updates.
    axes, is_rgb, objects_are_dark, channels
        As for :func:`enhance`.
    object_diameter_px : float, optional
        Default: measured from the labels, else suggested from the image.
    model_id : str
        Name for ``enhance(…, model=…)``.
    n_steps, learning_rate, seed, resume
        Updates, their size, random numbers, and whether to go on from the checkpoint in ``out``.
    **settings
        Further fields of :class:`napari_cellenhance.workflows.train.TrainRequest`.

    Returns
    -------
    str
        Id of the model.

    Raises
    ------
    AxesError, ImageError
        Axes or labels that do not fit, or images with nothing on them.
    ParameterError
        A setting outside its range, or no perceptual network where one is needed.
    ModelNotFoundError
        No model of the id ``init_from``.
    TrainingError
        The loss was no number before anything was learned.
    """
    from napari_cellenhance.workflows.train import TrainLayer, TrainRequest, run

    pictures = list(images) if isinstance(images, list | tuple) else [images]
    painted = list(labels) if isinstance(labels, list | tuple) else [labels] * len(pictures)
    if len(painted) != len(pictures):
        raise ParameterError(
            f"{len(painted)} label images were given for {len(pictures)} images; expected one for each"
        )
    layers = tuple(
        TrainLayer(
            name=f"image {i}",
            image=picture,
            axes=axes_of(picture, axes, is_rgb),
            channels=channels_of(channels),
            objects_are_dark=objects_are_dark,
            object_diameter_px=object_diameter_px,
            labels=ids,
        )
        for i, (picture, ids) in enumerate(zip(pictures, painted, strict=True), start=1)
    )
    shapes = None if masks is None else tuple(masks) if isinstance(masks, list | tuple) else (masks,)
    has_labels = any(ids is not None for ids in painted)
    request = TrainRequest(
        data=layers,
        out=out,
        perception=os.fspath(perception),
        teach=teach or ("labels" if has_labels else "images"),
        masks=shapes,
        model_id=model_id,
        init_from=init_from,
        n_steps=n_steps,
        learning_rate=learning_rate,
        seed=seed,
        resume=resume,
        **settings,
    )
    return run(request).model_id


def _map_of(values: Any, label_strengths: Mapping[int, float] | None, edge_px: int) -> StrengthMap | None:
    if values is None:
        if label_strengths is not None:
            raise ParameterError("label_strengths came without strength_map; give the image of the labels too")
        return None
    return StrengthMap(values=values, label_strengths=label_strengths, edge_px=edge_px, name="array")


def axes_of(pixels: Any, axes: str | None, is_rgb: bool) -> str:
    """Axes as given, else guessed from the shape.

    Raises
    ------
    ParameterError, AxesError
        Axes without colours for a colour image; a shape that no axes can be guessed for.
    """
    if axes is not None:
        if is_rgb and SAMPLES not in axes.upper():
            raise ParameterError(
                f"is_rgb is set, but axes {axes!r} have no S for the colours; write for example YXS, or leave axes out"
            )
        return axes
    guess = guess_axes(tuple(pixels.shape), is_rgb=is_rgb)
    if not guess.axes:
        raise AxesError(guess.note)
    return guess.axes


def channels_of(channels: str | int | Sequence[int]) -> Literal["all", "grey"] | tuple[int, ...]:
    """Channels as a request wants them.

    Raises
    ------
    ParameterError
        Another word than "all" or "grey".
    """
    if isinstance(channels, str):
        if channels == "all":
            return "all"
        if channels == "grey":
            return "grey"
        raise ParameterError(f"channels is {channels!r}; expected 'all', 'grey', a number or a list of numbers")
    if isinstance(channels, int | np.integer):
        return (int(channels),)
    return tuple(int(channel) for channel in channels)
