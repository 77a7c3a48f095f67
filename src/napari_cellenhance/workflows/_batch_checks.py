"""The cheap guards on one file of a batch: the middle of its image, before the recipe and after it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.axes import check_axes, select_channels, to_canonical
from napari_cellenhance.core.input_traits import middle
from napari_cellenhance.workflows._batch_steps import Made
from napari_cellenhance.workflows.batch_recipe import Recipe, kind_of, title_of
from napari_cellenhance.workflows.sample_guards import SampleGuards, keeps_grey, removes_objects
from napari_cellenhance.zoo.manifest import list_models

if TYPE_CHECKING:
    from napari_cellenhance.io.images import ImageFile

__all__ = ["checked", "level_of"]


def checked(recipe: Recipe, file: ImageFile, made: Made) -> Made:
    """What was made of a file, with what the guards say of it in its record and warnings.

    Recipes without a network, those that end with classes, and those that take objects away are not judged; the
    difference only where every step keeps the grey values.
    """
    kinds = [kind_of(step) for step in recipe.steps]
    cards = {card.id: card for card in list_models()}
    learned = [cards[title_of(step)] for step in recipe.steps if title_of(step) in cards]
    if not learned or kinds[-1] == "segment" or any(removes_objects(card) for card in learned):
        return made
    first = recipe.steps[0]
    before, after = _middle(file.image, first.axes or file.axes, first.channels), _middle(made.pixels, made.axes, "all")
    if before.shape != after.shape:
        return made
    keeps = len(learned) == len(kinds) and all(keeps_grey(card) for card in learned)
    guards = SampleGuards(keeps_grey=keeps, objects_are_dark=bool(getattr(first, "objects_are_dark", False)))
    guards.see(before, after, (0, 0, 0, 0, 0))
    told = tuple(guards.sentences())
    record = made.record | {"result_check": guards.record(), "warnings": [*made.record.get("warnings", ()), *told]}
    return replace(made, record=record, warnings=(*made.warnings, *told))


def level_of(made: Made) -> str:
    """Word of what was found: fine, look or doubt; empty where nothing was judged."""
    return str(made.record.get("result_check", {}).get("level", ""))


def _middle(image: Any, axes: str, channels: Any) -> NDArray[Any]:
    """The middle of the middle plane of the first channel."""
    axes = check_axes(axes, np.shape(image))
    chosen, _ = select_channels(to_canonical(image, axes), axes, channels)
    n_t, _, n_z = (int(n) for n in chosen.shape[:3])
    return middle(np.asarray(chosen[n_t // 2, 0, n_z // 2]))
