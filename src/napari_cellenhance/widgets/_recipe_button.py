"""The button “Recipe ▾” under the message of a run: how the new layers were made, to see, to copy and to repeat."""

from __future__ import annotations

import weakref
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QMenu, QPushButton, QWidget

from napari_cellenhance.widgets._guard import guarded
from napari_cellenhance.widgets._recipe_actions import (
    apply_recipe,
    check_result,
    copy_command,
    copy_python,
    made_layers,
    show_recipe,
)

__all__ = ["RecipeButton"]


class RecipeButton(QPushButton):
    """Hidden until a run has added layers. It finds the viewer through the dock that it stands in.

    Signals: ``told`` and ``failed``, each with a sentence.
    """

    told = Signal(str)
    failed = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._before: set[int] = set()
        self._layers: list[Any] = []
        self.setText("Recipe ▾")
        self.setStyleSheet("QPushButton { padding: 3px 10px; } ::menu-indicator { image: none; width: 0px; }")
        self.setToolTip("How the new layer was made: show it, copy it, or do the same with another layer.")
        self.setAccessibleName("Recipe of the new layer")
        menu = QMenu(self)
        menu.addAction("Show recipe…", self._show)
        menu.addAction("Copy as Python", self._copy_python)
        menu.addAction("Copy as command", self._copy_command)
        menu.addSeparator()
        menu.addAction("Apply recipe to…", self._apply)
        menu.addAction("Check this result…", self._check)
        self.setMenu(menu)
        self.setVisible(False)

    # --- which layers -------------------------------------------------------------------

    def viewer(self) -> Any:
        """Viewer of the dock; None outside of one."""
        parent = self.parentWidget()
        while parent is not None:
            viewer = getattr(parent, "viewer", None)
            if viewer is not None and not callable(viewer):
                return viewer
            parent = parent.parentWidget()
        return None

    def begin(self) -> None:
        """A run begins: what it adds from now on is meant."""
        viewer = self.viewer()
        self._before = set() if viewer is None else {id(layer) for layer in made_layers(viewer)}
        self._layers = []
        self.setVisible(False)

    def look(self) -> None:
        """Offer the recipe of layers that were added since the run began."""
        viewer = self.viewer()
        if viewer is None:
            return
        new = [layer for layer in made_layers(viewer) if id(layer) not in self._before]
        self._layers = [weakref.ref(layer) for layer in new]
        self.setVisible(bool(new))

    def layer(self) -> Any:
        """The new layer that is meant: the selected one, else the lowest; None if all were removed."""
        viewer = self.viewer()
        there = [layer for layer in (ref() for ref in self._layers) if layer is not None and layer in viewer.layers]
        active = None if viewer is None else viewer.layers.selection.active
        return active if any(layer is active for layer in there) else next(iter(there), None)

    # --- what can be done ---------------------------------------------------------------

    def show_error(self, message: str) -> None:
        """Show a sentence to the user."""
        self.failed.emit(message)

    @guarded
    def _show(self) -> None:
        if (layer := self._found()) is not None:
            show_recipe(layer, self.window())

    @guarded
    def _copy_python(self) -> None:
        if (layer := self._found()) is not None:
            self.told.emit(copy_python(layer))

    @guarded
    def _copy_command(self) -> None:
        if (layer := self._found()) is not None:
            self.told.emit(copy_command(layer))

    @guarded
    def _apply(self) -> None:
        if (layer := self._found()) is not None:
            apply_recipe(self.viewer(), layer, self.told.emit, self.failed.emit, self.window())

    @guarded
    def _check(self) -> None:
        if (layer := self._found()) is not None:
            check_result(self.viewer(), layer)

    def _found(self) -> Any:
        layer = self.layer()
        if layer is None:
            self.failed.emit("The new layer was removed; select one that is there, and use the menu Layers ▸ Metadata.")
        return layer
