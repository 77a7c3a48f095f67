"""What can be done with the recipe of a layer: show it, copy it, do the same with another layer."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from qtpy.QtWidgets import QApplication, QInputDialog, QWidget

from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.widgets._docking import COMPARE, open_panel
from napari_cellenhance.widgets._guard import error_sentence
from napari_cellenhance.widgets._layer_picker import image_layers
from napari_cellenhance.widgets._layers import METADATA_KEY, axes_of, is_preview, pixel_sizes, snapshot
from napari_cellenhance.widgets._recipe_dialog import RecipeDialog
from napari_cellenhance.widgets._recipe_results import RecipeLayers, measured, recipe_layers
from napari_cellenhance.widgets._results import quoted
from napari_cellenhance.widgets._settings import read_settings
from napari_cellenhance.widgets._worker import Job, Outcome, start_job
from napari_cellenhance.workflows import recipe_run
from napari_cellenhance.workflows.batch_recipe import from_record
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, Progress
from napari_cellenhance.workflows.recipe_run import Machine, RecipeRequest
from napari_cellenhance.workflows.recipe_text import as_command, as_python

__all__ = [
    "apply_recipe", "check_result", "copy_command", "copy_python", "made_layers", "record_of", "repeat_on",
    "show_recipe",
]  # fmt: skip

Tell = Callable[[str], Any]
_running: list[Job] = []
"""Jobs that no dock holds; each takes itself out when it ends."""


def record_of(layer: Any) -> dict[str, Any]:
    """How this plugin made a layer.

    Raises
    ------
    ParameterError
        It did not.
    """
    record = layer.metadata.get(METADATA_KEY) if hasattr(layer, "metadata") else None
    if not (isinstance(record, dict) and ("step" in record or "filter" in record)):
        raise ParameterError(f"“{getattr(layer, 'name', 'it')}” was not made by CellEnhance; choose a layer that was")
    return record


def made_layers(viewer: Any) -> list[Any]:
    """Layers that a filter or a model of this plugin made, the lowest first."""
    found = []
    for layer in viewer.layers:
        record = layer.metadata.get(METADATA_KEY)
        if isinstance(record, dict) and ("step" in record or "filter" in record) and not is_preview(layer):
            found.append(layer)
    return found


def copy_python(layer: Any) -> str:
    """Put a program that makes the layer again onto the clipboard; what to say about it."""
    _copy(as_python(record_of(layer)))
    return f"Copied: Python that makes “{layer.name}” again from its first image. Put the path of your file in."


def copy_command(layer: Any) -> str:
    """Put a line for the terminal that makes the layer again onto the clipboard; what to say about it."""
    _copy(as_command(record_of(layer)))
    return f"Copied: a command that makes “{layer.name}” again from its first image. Put the path of your file in."


def _copy(text: str) -> None:
    clipboard = QApplication.clipboard()
    if clipboard is not None:
        clipboard.setText(text)


def show_recipe(layer: Any, parent: QWidget | None = None) -> RecipeDialog:
    """Open a window that tells how the layer was made."""
    dialog = RecipeDialog(str(layer.name), record_of(layer), parent)
    dialog.show()
    return dialog


def check_result(viewer: Any, layer: Any) -> Any:
    """Open the dock that compares with its tab “Trust” in front, for this result; returns the dock."""
    panel = open_panel(viewer, COMPARE, "Compare")
    panel.look_at_trust(layer)
    return panel


def apply_recipe(viewer: Any, layer: Any, tell: Tell, fail: Tell, parent: QWidget | None = None) -> Job | None:
    """Ask for an image layer, and do with it what was done to make ``layer``."""
    record_of(layer)
    others = [other for other in image_layers(viewer) if other is not layer]
    if not others:
        raise ParameterError("there is no other image to do the same with; open one first")
    names = [str(other.name) for other in others]
    label = f"Do with this image what made “{layer.name}”, all steps from the first:"
    name, is_chosen = QInputDialog.getItem(parent, "Apply recipe to…", label, names, 0, False)
    return repeat_on(viewer, layer, others[names.index(name)], tell, fail) if is_chosen else None


def repeat_on(viewer: Any, layer: Any, target: Any, tell: Tell, fail: Tell) -> Job:
    """Do the whole chain of steps of ``layer`` with ``target`` in the worker; the results are new layers.

    Raises
    ------
    ParameterError
        A layer that cannot be repeated.
    BusyError
        Another run is under way.
    """
    record = record_of(layer)
    view, settings = snapshot(target, viewer.dims), read_settings()
    recipe = from_record(record)
    axes = _axes_for(record, view)
    request = RecipeRequest(
        image=view.levels[0], axes=axes, recipe=recipe, source_name=view.name, earlier=view.made,
        machine=Machine(
            device=settings.device, memory_limit_mb=settings.memory_limit_mb, cache_folder=settings.cache_folder
        ),
        pixel_size_um=pixel_sizes([float(step) for step in view.geometry.scale], view.geometry.units, axes),
    )  # fmt: skip

    def work(on_progress: OnProgress, is_cancelled: IsCancelled) -> RecipeLayers | None:
        result = recipe_run.run(request, on_progress=on_progress, is_cancelled=is_cancelled)
        return None if result is None else measured(result)

    def ended(outcome: Outcome) -> None:
        _running.remove(job)
        if outcome.error is not None:
            fail(error_sentence(outcome.error))
        elif outcome.value is None:
            tell("Stopped; nothing was added.")
        elif target not in viewer.layers:
            tell(f"“{view.name}” was removed meanwhile; nothing was added.")
        else:
            added = [
                getattr(viewer, f"add_{kind}")(data, **kwargs)
                for data, kwargs, kind in recipe_layers(outcome.value, view, axes, recipe)
            ]
            names = quoted([str(one.name) for one in added])
            tell(" ".join([f"Done as “{layer.name}” was made: {names}.", *outcome.value.result.warnings]))

    job = start_job(f"Apply recipe to {view.name}", work, on_progress=partial(_pass, view.name), on_ended=ended)
    _running.append(job)
    tell(f"Doing with “{view.name}” what made “{layer.name}”…")
    return job


def _pass(_name: str, _progress: Progress) -> None:
    """Nothing to do: the activity dock of napari shows how far it is."""


def _axes_for(record: dict[str, Any], view: Any) -> str:
    """Axes of an image as they were in the first step where they fit; else what its shape suggests."""
    first = record
    while isinstance(first.get("earlier"), dict):
        first = first["earlier"]
    axes = str(first.get("axes") or "")
    fits = len(axes) == len(view.shape) and ("S" in axes) == view.is_rgb
    return axes if fits else axes_of(view)[0]
