"""Small parts of the Enhance dock: its choices, what it says, how boxes are made."""

from __future__ import annotations

from typing import Any

from qtpy.QtWidgets import QComboBox, QGroupBox, QSizePolicy, QVBoxLayout, QWidget

from napari_cellenhance.widgets._layers import Choices, LayerView

__all__ = ["SCOPES", "STATISTICS", "column", "combo", "device_line", "group", "run_problem"]

SCOPES = (("Whole layer", "layer"), ("Current slice", "slice"), ("What is in view", "view"))
STATISTICS = (("Per plane", "plane"), ("Whole stack (no flicker)", "stack"))


def run_problem(view: LayerView | None, choices: Choices | None, axes_problem: str) -> str:
    """Why Run is not possible; empty when it is."""
    if view is None or choices is None:
        return "Open an image (File ▸ Open Sample ▸ CellEnhance has some) to enhance it."
    if axes_problem:
        return axes_problem
    if "S" in choices.axes and choices.channels == "all" and (choices.segment or choices.blobs):
        return "Objects are found in one grey image: choose Grey or a single colour under Channels."
    return ""


def device_line(provenance: dict[str, Any]) -> str:
    """Where a run was computed; empty when nothing had to be."""
    device, precision = provenance.get("device"), provenance.get("precision")
    if not device:
        return ""
    return f"Ran on {str(device).upper()}, {precision}."


def combo(entries: tuple[tuple[str, str], ...], name: str, tip: str) -> QComboBox:
    """A combo box of (title, data)."""
    box = QComboBox()
    for title, data in entries:
        box.addItem(title, data)
    box.setAccessibleName(name)
    box.setToolTip(tip)
    box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    box.setMinimumContentsLength(10)
    box.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    return box


def group(title: str, *parts: QWidget) -> QGroupBox:
    """A titled box of widgets, one below the other."""
    box = QGroupBox(title)
    layout = QVBoxLayout(box)
    layout.setContentsMargins(8, 8, 8, 8)
    for part in parts:
        layout.addWidget(part)
    return box


def column(*parts: QWidget) -> QWidget:
    """Widgets one below the other, with what is left of the height below them."""
    widget = QWidget()
    layout = QVBoxLayout(widget)
    layout.setContentsMargins(0, 0, 0, 0)
    for part in parts:
        layout.addWidget(part)
    layout.addStretch(1)
    return widget
