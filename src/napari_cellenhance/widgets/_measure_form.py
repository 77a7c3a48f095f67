"""Which layers are measured: the raw image, its enhanced versions, and where the objects are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFormLayout,
    QLabel,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_cellenhance.widgets._guard import guarded
from napari_cellenhance.widgets._layer_checks import LayerChecks
from napari_cellenhance.widgets._layer_picker import image_layers
from napari_cellenhance.widgets._measure_layers import Chosen, freeze, is_enhanced
from napari_cellenhance.widgets._status import alarm

__all__ = ["SCOPES", "LayerCombo", "MeasureForm", "layers_of"]

AUTOMATIC = "Automatic (Otsu of the raw image)"
_LIST_ROWS = 4
SCOPES = (("Whole stack", False), ("Plane in view", True))


def layers_of(viewer: Any, kind: str) -> list[Any]:
    """Layers of a kind ("Labels", "Points", "Shapes"), the topmost first."""
    import napari.layers

    wanted = getattr(napari.layers, kind)
    return [layer for layer in reversed(list(viewer.layers)) if isinstance(layer, wanted)]


class LayerCombo(QComboBox):
    """Choose one of several layers; entries before them stand for "none" and the like. It is filled from outside."""

    def __init__(self, name: str, tip: str, first: tuple[str, ...] = (), parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._first = first
        self._layers: list[Any] = []
        self._is_by_hand = False
        self.setAccessibleName(name)
        self.setToolTip(tip)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(10)
        self.activated.connect(self._on_activated)
        self.fill([])

    def fill(self, layers: list[Any], prefer: Callable[[Any], bool] = lambda layer: False) -> None:
        """List these layers; keep the chosen one if it is still there, else take the first preferred one."""
        kept, row = self.layer(), self.currentIndex()
        was_blocked = self.blockSignals(True)
        self._layers = list(layers)
        self.clear()
        self.addItems([*self._first, *[str(layer.name) for layer in layers]])
        n_first = len(self._first)
        preferred = [n_first + i for i, layer in enumerate(self._layers) if prefer(layer)]
        has_kept_entry = kept is None and 0 <= row < n_first
        if kept is not None and kept in self._layers:
            index = n_first + self._layers.index(kept)
        elif has_kept_entry and (self._is_by_hand or not preferred):
            index = row
        else:
            index = preferred[0] if preferred else min(0, self.count() - 1)
        self.setCurrentIndex(index)
        self.blockSignals(was_blocked)

    def _on_activated(self) -> None:
        self._is_by_hand = True  # from now on no new layer takes the place of what a person chose

    def layer(self) -> Any:
        """The chosen layer; None for an entry before the layers, and without any layer."""
        index = self.currentIndex() - len(self._first)
        return self._layers[index] if 0 <= index < len(self._layers) else None

    def choose(self, layer: Any) -> None:
        """Choose a layer that is listed."""
        if layer in self._layers:
            self.setCurrentIndex(len(self._first) + self._layers.index(layer))


class MeasureForm(QWidget):
    """The upper part of the panel. ``changed`` comes with every choice; ``refilled`` when layers came or went."""

    changed = Signal()
    refilled = Signal()

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._named: list[Any] = []
        self._images: list[Any] = []
        self.raw = LayerCombo("Raw image", "The image before enhancement. Gain and fold refer to it.")
        self.enhanced = LayerChecks(
            "Enhanced images", "Tick the images to measure beside the raw one: enhanced versions of it.", _LIST_ROWS
        )
        self.masks = LayerCombo(
            "Mask",
            "Labels layer that tells objects from ground; its objects also serve as the truth for blobs and segments.",
            (AUTOMATIC,),
        )
        self.mask_note = QLabel()
        self.mask_note.setWordWrap(True)
        self.scope = QComboBox()
        for title, only_plane in SCOPES:
            self.scope.addItem(title, only_plane)
        self.scope.setAccessibleName("Measure on")
        self.scope.setToolTip("All planes of the stack, or only the one that is shown.")
        self.dark = QCheckBox("Objects are dark in the raw image")
        self.dark.setToolTip(
            "Tick it for bright field or stained tissue: the raw image is inverted before it is measured, "
            "as it was before it was enhanced."
        )
        self._lay_out()
        for event in self._events():
            event.connect(self.refill)
        for combo in (self.raw, self.masks, self.scope):
            combo.currentIndexChanged.connect(self._tell)
        self.enhanced.itemChanged.connect(self._tell)
        self.dark.toggled.connect(self._tell)
        self.refill()

    def _lay_out(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._form = QFormLayout()
        self._form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        self._form.addRow("Raw image", self.raw)
        self._form.addRow("Enhanced", self.enhanced)
        self._form.addRow("Mask", self.masks)
        self._form.addRow("", self.mask_note)
        self._form.addRow("Measure on", self.scope)
        layout.addLayout(self._form)
        layout.addWidget(self.dark)

    def _events(self) -> tuple[Any, ...]:
        events = self._viewer.layers.events
        return (events.inserted, events.removed, events.reordered)

    def show_error(self, message: str) -> None:
        """Show why the layers could not be listed."""
        self.mask_note.setText(alarm(message))

    # --- what it says -------------------------------------------------------------------

    def chosen(self) -> Chosen | None:
        """Freeze what is chosen; None without a raw image. Call it on the GUI thread."""
        raw, dims = self.raw.layer(), self._viewer.dims
        if raw is None:
            return None
        mask = self.masks.layer()
        return Chosen(
            raw=freeze(raw, dims),
            enhanced=tuple(freeze(layer, dims) for layer in self.ticked()),
            mask=None if mask is None else freeze(mask, dims),
            only_plane=bool(self.scope.currentData()) and self._has_stack(),
            is_dark=self.dark.isChecked(),
        )

    def ticked(self) -> list[Any]:
        """Enhanced layers that are ticked; the raw image never is one of them."""
        raw = self.raw.layer()
        return [layer for layer in self.enhanced.ticked() if layer != raw]

    def tick(self, layer: Any, is_ticked: bool = True) -> None:
        """Tick an image from outside."""
        self.enhanced.tick(layer, is_ticked)

    def _has_stack(self) -> bool:
        raw = self.raw.layer()
        return raw is not None and any(n > 1 for n in raw.data.shape[: raw.ndim - 2])

    # --- filling ------------------------------------------------------------------------

    @guarded
    def refill(self) -> None:
        """Read the layer list again; keep what was chosen and ticked. New enhanced images are ticked."""
        for layer in self._named:
            layer.events.name.disconnect(self.refill)
        self._images = image_layers(self._viewer)
        masks = layers_of(self._viewer, "Labels")
        others = (layers_of(self._viewer, kind) for kind in ("Points", "Shapes"))
        self._named = [*self._images, *masks, *(layer for kind in others for layer in kind)]
        for layer in self._named:
            layer.events.name.connect(self.refill)
        # The lowest image that is no result of ours: results are added above their source.
        self.raw.fill(self._images, prefer=self._is_lowest_raw)
        self.masks.fill(masks, prefer=lambda layer: not is_enhanced(layer))
        self.enhanced.fill(self._images, is_enhanced)
        self.refilled.emit()
        self._tell()

    def _is_lowest_raw(self, layer: Any) -> bool:
        raw = [each for each in self._images if not is_enhanced(each)]
        return bool(raw) and layer == raw[-1]

    @guarded
    def _tell(self) -> None:
        raw = self.raw.layer()
        self.enhanced.hide_layer(raw)
        is_automatic = self.masks.layer() is None
        self.mask_note.setText(
            "No Labels layer chosen: objects are what lies above Otsu's threshold of the raw image, which favours it."
            if is_automatic
            else ""
        )
        self._form.setRowVisible(self.mask_note, is_automatic and raw is not None)
        self._form.setRowVisible(self.scope, self._has_stack())
        self.changed.emit()

    def release(self) -> None:
        """Stop following the viewer."""
        for event in self._events():
            event.disconnect(self.refill)
        for layer in self._named:
            layer.events.name.disconnect(self.refill)
        self._named = []
