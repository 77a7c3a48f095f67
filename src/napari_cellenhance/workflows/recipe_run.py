"""A recipe on an image in memory: the whole chain of steps, with the models that it names."""

from __future__ import annotations

import warnings as warning_messages
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.axes import check_axes
from napari_cellenhance.io.images import ImageFile
from napari_cellenhance.workflows._batch_steps import Machine, Made, OpenedRecipe, open_recipe
from napari_cellenhance.workflows.batch_recipe import Recipe, check_weights, recipe_of
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, Progress, never_cancelled, no_progress
from napari_cellenhance.workflows.python_api import axes_of

__all__ = ["Machine", "RecipeRequest", "RecipeResult", "run", "run_opened", "run_recipe"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeRequest:
    """Do a recipe with one image of any axes. Holds no layer and no viewer.

    Parameters
    ----------
    image : array-like (numpy, dask, zarr)
        Never written to.
    axes : str
        One letter per dimension of ``image``.
    recipe : Recipe
    any_weights : bool
        Go on where a model has other weights than the recipe names.
    earlier : mapping or None
        Record of how the image itself was made.
    """

    image: Any
    axes: str
    recipe: Recipe
    any_weights: bool = False
    machine: Machine = field(default_factory=Machine)
    source_name: str = "image"
    pixel_size_um: dict[str, float] = field(default_factory=dict)
    earlier: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeResult:
    """What a recipe made of an image.

    Parameters
    ----------
    image : ndarray
        What the last step made, along ``axes``: an image, or classes.
    labels : ndarray of whole numbers, or None
        The objects, along ``labels_axes``.
    beside : dict of str to (ndarray, axes)
        Further pictures by name: "uncertainty", "remainder".
    record : dict
        How it was made, with the whole chain; ready for JSON.
    """

    image: NDArray[Any]
    axes: str
    record: dict[str, Any]
    labels: NDArray[Any] | None = None
    labels_axes: str = ""
    beside: dict[str, tuple[NDArray[Any], str]] = field(default_factory=dict)
    channel_names: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def run(
    request: RecipeRequest, *, on_progress: OnProgress = no_progress, is_cancelled: IsCancelled = never_cancelled
) -> RecipeResult | None:
    """Load the models of a recipe, and do all its steps; None after a cancel.

    Raises
    ------
    ModelNotFoundError, ParameterError
        A model is not there, or has other weights; a setting that does not fit the image.
    DownloadError, ChecksumError, DeviceError
        Weights that cannot be had; no memory, or no such device.
    AxesError, ImageError
        An image that does not fit a step.
    """
    if not request.any_weights:
        check_weights(request.recipe)
    opened = open_recipe(request.recipe, request.machine, on_progress)
    return run_opened(request, opened, on_progress=on_progress, is_cancelled=is_cancelled)


def run_opened(
    request: RecipeRequest,
    opened: OpenedRecipe,
    *,
    on_progress: OnProgress = no_progress,
    is_cancelled: IsCancelled = never_cancelled,
) -> RecipeResult | None:
    """Do a recipe whose models are loaded already; see :func:`run`."""
    from napari_cellenhance.core.inference import Cancelled

    axes = check_axes(request.recipe.steps[0].axes or request.axes, np.shape(request.image))
    file = ImageFile(
        image=request.image, axes=axes, pixel_size_um=dict(request.pixel_size_um),
        provenance=None if request.earlier is None else dict(request.earlier),
    )  # fmt: skip
    try:
        made = opened.apply(file, Path(request.source_name), _stopping(on_progress, is_cancelled))
    except Cancelled:
        return None
    return None if is_cancelled() else _result(made)


def _stopping(on_progress: OnProgress, is_cancelled: IsCancelled) -> Callable[[Progress], None]:
    """Progress of a step, which ends where somebody cancelled: between tiles."""
    from napari_cellenhance.core.inference import Cancelled

    def report(progress: Progress) -> None:
        if is_cancelled():
            raise Cancelled
        on_progress(progress)

    return report


def _result(made: Made) -> RecipeResult:
    return RecipeResult(
        image=made.pixels, axes=made.axes, record=made.record, labels=made.labels, labels_axes=made.labels_axes,
        beside=made.beside, channel_names=made.channel_names, warnings=made.warnings,
    )  # fmt: skip


def run_recipe(
    image: Any,
    recipe: Recipe | Mapping[str, Any],
    *,
    axes: str | None = None,
    is_rgb: bool = False,
    any_weights: bool = False,
    device: str = "auto",
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
    earlier: Mapping[str, Any] | None = None,
) -> RecipeResult:
    """Make an image as another one was made, all steps from the first; what the window copies as Python calls this.

    Parameters
    ----------
    image : array-like of shape (…, Y, X), or (…, Y, X, 3 or 4) with ``is_rgb``
        numpy, dask or zarr; never written to.
    recipe : mapping or Recipe
        As copied from the window or read from a ``.recipe.json``; or the record of a result.
    axes, is_rgb, device, precision, earlier
        As for :func:`napari_cellenhance.enhance`.
    any_weights : bool
        Go on where a model has other weights than the recipe names.

    Returns
    -------
    RecipeResult
        ``image``, ``labels`` where the recipe finds objects, ``beside``, and ``record``.

    Raises
    ------
    ParameterError
        No recipe, one of a later version, or a model whose weights are other ones.
    ModelNotFoundError
        A model of the recipe is not here.
    AxesError, ImageError, DownloadError, ChecksumError, DeviceError
        As for the steps.

    Warns
    -----
    UserWarning
        What the steps remark, such as the same method applied again.

    Examples
    --------
    >>> import numpy as np
    >>> from napari_cellenhance import run_recipe
    >>> recipe = {
    ...     "cellenhance_recipe": 1,
    ...     "steps": [{"step": "enhance", "filter_id": "gamma", "strength": 2.0}],
    ... }
    >>> run_recipe(np.arange(64.0).reshape(8, 8), recipe).image.shape
    (8, 8)
    """
    pixels = image if hasattr(image, "shape") else np.asarray(image)
    wanted = recipe if isinstance(recipe, Recipe) else recipe_of(recipe)
    request = RecipeRequest(
        image=pixels, axes=wanted.steps[0].axes or axes_of(pixels, axes, is_rgb), recipe=_with_axes(wanted, axes),
        any_weights=any_weights, machine=Machine(device=device, precision=precision), earlier=earlier,
    )  # fmt: skip
    result = run(request)
    assert result is not None  # nobody can cancel it
    for sentence in result.warnings:
        warning_messages.warn(sentence, UserWarning, stacklevel=2)
    return result


def _with_axes(recipe: Recipe, axes: str | None) -> Recipe:
    """The recipe with axes that were given."""
    return recipe if axes is None else replace(recipe, steps=(replace(recipe.steps[0], axes=axes), *recipe.steps[1:]))
