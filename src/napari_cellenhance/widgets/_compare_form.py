"""Which layers are compared: one before, one or several after; to begin with a result and its source."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QFormLayout, QWidget

from napari_cellenhance.widgets._guard import guarded
from napari_cellenhance.widgets._layer_checks import LayerChecks
from napari_cellenhance.widgets._layer_picker import image_layers
from napari_cellenhance.widgets._measure_form import SCOPES, LayerCombo
from napari_cellenhance.widgets._measure_layers import Chosen, freeze, is_enhanced
from napari_cellenhance.widgets._results import METADATA_KEY

__all__ = ["DIFFERENCE", "CompareForm", "is_result", "source_of"]

DIFFERENCE = "difference"
"""Step in the record of a difference layer, which is no result of an image."""
CHECK = "check"
"""Step in the record of a map of the guards, which is none either."""
_LIST_ROWS = 3


def _record(layer: Any) -> Mapping[str, Any]:
    record = layer.metadata.get(METADATA_KEY)
    return record if isinstance(record, Mapping) else {}


def is_result(layer: Any) -> bool:
    """Whether a layer is an image that this plugin made out of another one."""
    return is_enhanced(layer) and _record(layer).get("step") not in (DIFFERENCE, CHECK)


def source_of(layer: Any, layers: list[Any]) -> Any:
    """The layer that a result was made from, by the name in its record; None if it is not there."""
    source = _record(layer).get("source")
    name = source.get("name") if isinstance(source, Mapping) else None
    return next((each for each in layers if each.name == name and each != layer), None)


class CompareForm(QWidget):
    """The upper part of the dock. ``changed`` comes with every choice; ``refilled`` when layers came or went.

    Parameters
    ----------
    viewer : ViewerModel
    """

    changed = Signal()
    refilled = Signal()

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._images: list[Any] = []
        self.before = LayerCombo("Before", "The image to compare with: the raw one, as a rule.")
        self.after = LayerChecks("After", "Tick one or several images made from it.", _LIST_ROWS)
        self.scope = QComboBox()
        for title, only_plane in reversed(SCOPES):
            self.scope.addItem(title, only_plane)
        self.scope.setAccessibleName("Of stacks")
        self.scope.setToolTip("Numbers and fits of the plane that is shown, or of all planes of the stack.")
        self._form = QFormLayout(self)
        self._form.setContentsMargins(0, 0, 0, 0)
        self._form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        self._form.addRow("Before", self.before)
        self._form.addRow("After", self.after)
        self._form.addRow("Of stacks", self.scope)
        for event in self._events():
            event.connect(self.refill)
        for combo in (self.before, self.scope):
            combo.currentIndexChanged.connect(self._tell)
        self.after.itemChanged.connect(self._tell)
        self.refill()

    def _events(self) -> tuple[Any, ...]:
        events = self._viewer.layers.events
        return (events.inserted, events.removed, events.reordered)

    def show_error(self, message: str) -> None:
        """Show why the layers could not be listed."""
        self.before.setToolTip(message)

    # --- what it says -------------------------------------------------------------------

    def layers(self) -> list[Any]:
        """The layers themselves, the one before first, then those after as they lie in the viewer, the lowest first."""
        before = self.before.layer()
        return [] if before is None else [before, *self.ticked()]

    def ticked(self) -> list[Any]:
        """Layers after; the one before never is one of them."""
        before = self.before.layer()
        return [layer for layer in reversed(self.after.ticked()) if layer != before]

    def choose(self, result: Any) -> None:
        """Tick this result alone, and take what it was made from as the image before."""
        source = source_of(result, self._images)
        if source is not None:
            self.before.choose(source)
        for layer in self.after.layers:
            self.after.tick(layer, layer is result or layer == result)

    def chosen(self) -> Chosen | None:
        """Freeze what is chosen; None without a layer before. Call it on the GUI thread."""
        before, dims = self.before.layer(), self._viewer.dims
        if before is None:
            return None
        return Chosen(
            raw=freeze(before, dims),
            enhanced=tuple(freeze(layer, dims) for layer in self.ticked()),
            only_plane=bool(self.scope.currentData()) and self._has_stack(),
        )

    def _has_stack(self) -> bool:
        before = self.before.layer()
        return before is not None and any(n > 1 for n in before.data.shape[: before.ndim - 2])

    # --- filling ------------------------------------------------------------------------

    @guarded
    def refill(self) -> None:
        """Read the layer list again; what was chosen and ticked stays. New results of the layer before are ticked."""
        for layer in self._images:
            layer.events.name.disconnect(self.refill)
        self._images = image_layers(self._viewer)
        for layer in self._images:
            layer.events.name.connect(self.refill)
        preferred, wanted = self._defaults()
        self.before.fill(self._images, prefer=lambda layer: layer == preferred)
        before = self.before.layer()
        is_first = wanted is not None and not self.after.layers
        self.after.fill(
            self._images,
            lambda layer: (
                layer == wanted if is_first else is_result(layer) and source_of(layer, self._images) in (before, None)
            ),
        )
        self.refilled.emit()
        self._tell()

    def _defaults(self) -> tuple[Any, Any]:
        """Before, and the one layer after; the latter None: all results of the layer before."""
        active = self._viewer.layers.selection.active
        results = [layer for layer in self._images if is_result(layer)]
        raw = [layer for layer in self._images if not is_enhanced(layer)]
        lowest = raw[-1] if raw else None
        if active in results:
            return source_of(active, self._images) or lowest, active
        if active in raw and any(source_of(layer, self._images) == active for layer in results):
            return active, None
        sources = [source for layer in results if (source := source_of(layer, self._images)) is not None]
        return (sources[0] if sources else lowest), None

    @guarded
    def _tell(self) -> None:
        self.after.hide_layer(self.before.layer())
        self._form.setRowVisible(self.scope, self._has_stack())
        self.changed.emit()

    def release(self) -> None:
        """Stop following the viewer."""
        for event in self._events():
            event.disconnect(self.refill)
        for layer in self._images:
            layer.events.name.disconnect(self.refill)
        self._images = []
