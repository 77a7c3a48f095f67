"""Learning to segment, and segmenting, from Python; the same workflows as those of the dock and the command line."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.workflows.painted_layers import PaintedLayer
from napari_cellenhance.workflows.python_api import axes_of, channels_of
from napari_cellenhance.workflows.segment_model import InstanceOptions, ModelSegmentation, Output

__all__ = ["segment", "train_aep", "train_voidseg"]


def segment(
    image: Any,
    model: str = "aep-nuclei",
    *,
    output: Output = "classes",
    axes: str | None = None,
    is_rgb: bool = False,
    channels: Literal["all", "grey"] | int | Sequence[int] = "grey",
    instances: InstanceOptions | None = None,
    statistics: Literal["plane", "stack"] = "plane",
    device: str = "auto",
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
    tile_px: int | None = None,
    earlier: Mapping[str, Any] | None = None,
    with_record: bool = False,
) -> Any:
    """Segment an image with a model that learned it from labels.

    Parameters
    ----------
    image : array-like of shape (…, Y, X), or (…, Y, X, 3 or 4) with ``is_rgb``
        numpy, dask or zarr; never written to.
    model : str
        A segmenting model, see ``cellenhance models list``.
    output : str
        "classes" (label values), "instances" (each object a number), or with one more axis, the first:
        "probabilities" (one per class), "translated" (the enhanced images), "filters" (one per learned filter),
        "branches" (one segmentation per branch) or "denoised" (what the network of a sequential model looked at).
    axes, is_rgb, channels, statistics, device, precision, tile_px, earlier, with_record
        As for :func:`napari_cellenhance.enhance`.
    instances : InstanceOptions, optional
        How objects are parted, which class they are, and from which probability on.

    Returns
    -------
    ndarray
        int32 (classes, branches), uint32 (instances) or float32; the shape of the image less its channels or colours.
        With ``with_record`` a tuple of this and a dict.

    Raises
    ------
    ModelNotFoundError
        No segmenting model of that id.
    AxesError, ImageError, ParameterError
        What does not fit the image; or an output that the model does not make.

    Warns
    -----
    UserWarning
        What the workflow remarks, such as planes of a single grey value.
    """
    from napari_cellenhance.workflows.segment_model import SegmentModelRequest, run

    pixels = image if hasattr(image, "shape") else np.asarray(image)
    request = SegmentModelRequest(
        image=pixels, axes=axes_of(pixels, axes, is_rgb), model_id=model, outputs=frozenset({"classes", output}),
        instances=instances or InstanceOptions(), channels=channels_of(channels), statistics=statistics, device=device,
        precision=precision, tile_px=tile_px, earlier=earlier,
    )  # fmt: skip
    result = run(request)
    for sentence in result.warnings:
        warnings.warn(sentence, UserWarning, stacklevel=2)
    found = _output_of(result, output, model)
    return (found, result.provenance) if with_record else found


def _output_of(result: ModelSegmentation, output: str, model: str) -> NDArray[Any]:
    if output == "classes":
        return result.classes
    if output == "instances":
        return np.asarray(result.instances)
    if output not in result.maps:
        raise ParameterError(f"the model {model!r} makes no {output}; choose classes, instances or probabilities")
    return result.maps[output]


def train_aep(
    images: Any,
    labels: Any,
    out: str | os.PathLike[str],
    *,
    painted_as: Literal["classes", "instances"] = "classes",
    class_names: Mapping[int, str] | None = None,
    init_from: str | None = None,
    axes: str | None = None,
    is_rgb: bool = False,
    channels: Literal["grey"] | int = "grey",
    model_id: str = "aep-custom",
    n_steps: int = 600,
    seed: int = 0,
    resume: bool = False,
    **settings: Any,
) -> str:
    """Train AEP + AWEL on images in memory and the labels painted on them.

    Parameters
    ----------
    images : array-like of shape (…, Y, X), or list of them
        All with the same order of axes.
    labels : array-like of int, or list of them
        0 not painted, 1 background, 2 and above classes; with ``painted_as="instances"`` objects from 2.
    out : path
        Folder for weights, card, curves and checkpoint; made if missing.
    class_names : mapping of int to str, optional
        Label value → name.
    init_from : str, optional
        Segmenting model to start from. Default: random weights.
    axes, is_rgb, channels
        As for :func:`napari_cellenhance.enhance`.
    model_id : str
        Name for ``segment(…, model=…)`` and ``enhance(…, model=…)``.
    n_steps, seed, resume
        Updates, random numbers, and whether to go on from the checkpoint in ``out``.
    **settings
        Further fields of :class:`napari_cellenhance.workflows.train_aep.AEPRequest`.

    Returns
    -------
    str
        Id of the model.

    Raises
    ------
    ImageError
        No paint, one class only, too little paint, labels of another shape, a constant image.
    AxesError, ParameterError
        Axes or settings that do not fit.
    TrainingError
        The loss was no number before anything was learned.
    """
    from napari_cellenhance.workflows.train_aep import AEPRequest, run

    layers = _painted(images, labels, axes, is_rgb, channels, painted_as=painted_as)
    request = AEPRequest(
        data=layers, out=out, class_names=class_names or {}, init_from=init_from, model_id=model_id, n_steps=n_steps,
        seed=seed, resume=resume, **settings,
    )  # fmt: skip
    return run(request).model_id


def train_voidseg(
    images: Any,
    labels: Any,
    out: str | os.PathLike[str],
    *,
    denoiser: str | None = None,
    scheme: Literal["baseline", "sequential", "finetune", "finetune-sequential"] | None = None,
    painted_as: Literal["objects", "strokes", "classes"] = "objects",
    axes: str | None = None,
    is_rgb: bool = False,
    channels: Literal["grey"] | int = "grey",
    model_id: str = "voidseg-custom",
    n_steps: int = 600,
    seed: int = 0,
    resume: bool = False,
    **settings: Any,
) -> str:
    """Train VoidSeg, or StarDist, on few labelled images in memory, with the help of a denoiser.

    Parameters
    ----------
    images : array-like of shape (…, Y, X), or list of them
        All with the same order of axes.
    labels : array-like of int, or list of them
        "objects": 0 is background and each object a number from 1; "strokes": 0 is not painted, 1 background and each
        object a number from 2; "classes": 0 is not painted, 1 background, 2 objects, 3 border. Planes of a stack
        without any label are left out.
    out : path
        Folder for weights, card, curves and checkpoint; made if missing.
    denoiser : str, optional
        Model that ``train_n2v`` made, for every scheme but the baseline.
    scheme : str, optional
        What the denoiser is for. Default: "sequential" with a denoiser, else "baseline".
    painted_as : "objects", "strokes" or "classes"
        What ``labels`` hold.
    axes, is_rgb, channels
        As for :func:`napari_cellenhance.enhance`.
    model_id : str
        Name for ``segment(…, model=…, output="instances")``.
    n_steps, seed, resume
        Updates, random numbers, and whether to go on from the checkpoint in ``out``.
    **settings
        Further fields of :class:`napari_cellenhance.workflows.train_voidseg.VoidSegRequest`, such as
        ``network="stardist"``.

    Returns
    -------
    str
        Id of the model; the threshold that the training chose is on its card.

    Raises
    ------
    ImageError
        No labels, too few of them, labels of another shape, a constant image.
    AxesError, ParameterError
        Axes or settings that do not fit, a model that is no denoiser.
    ModelNotFoundError
        No such denoiser.
    TrainingError
        The loss was no number before anything was learned.
    """
    from napari_cellenhance.workflows.train_voidseg import VoidSegRequest, run

    layers = _painted(
        images, labels, axes, is_rgb, channels,
        painted_as="classes" if painted_as == "classes" else "instances", is_complete=painted_as == "objects",
    )  # fmt: skip
    request = VoidSegRequest(
        data=layers, out=out, denoiser=denoiser or "", scheme=scheme or ("sequential" if denoiser else "baseline"),
        model_id=model_id, n_steps=n_steps, seed=seed, resume=resume, **settings,
    )  # fmt: skip
    return run(request).model_id


def _painted(
    images: Any, labels: Any, axes: str | None, is_rgb: bool, channels: Literal["grey"] | int, **what: Any
) -> tuple[PaintedLayer, ...]:
    """Images and what is painted on each; ``what`` says how the labels are read.

    Raises
    ------
    AxesError, ParameterError
        Not as many labels as images; axes that cannot be guessed.
    """
    pictures = list(images) if isinstance(images, list | tuple) else [images]
    painted = list(labels) if isinstance(labels, list | tuple) else [labels]
    if len(painted) != len(pictures):
        raise ParameterError(
            f"{len(painted)} label images were given for {len(pictures)} images; expected one for each"
        )
    chosen = cast("Literal['grey'] | tuple[int, ...]", channels_of(channels))
    return tuple(
        PaintedLayer(
            name=f"image {i}", image=picture, axes=axes_of(picture, axes, is_rgb), labels=ids, channels=chosen, **what
        )
        for i, (picture, ids) in enumerate(zip(pictures, painted, strict=True), start=1)
    )
