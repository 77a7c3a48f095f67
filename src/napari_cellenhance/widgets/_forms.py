"""Rows of a form, and boxes that say what they are for; the same look in every dock."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QComboBox,
    QFormLayout,
    QFrame,
    QGroupBox,
    QScrollArea,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)  # fmt: skip

__all__ = ["boxed", "describe", "new_form", "scrolled"]


def new_form(parent: QWidget | None = None) -> QFormLayout:
    """Make a form without margins whose fields take the width there is."""
    rows = QFormLayout(parent)
    rows.setContentsMargins(0, 0, 0, 0)
    rows.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
    return rows


def describe(widget: QWidget, name: str, tip: str) -> None:
    """Name a box for screen readers, explain it, and let it share the width of the dock."""
    widget.setAccessibleName(name)
    widget.setToolTip(tip)
    if isinstance(widget, QComboBox):
        widget.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        widget.setMinimumContentsLength(10)
    widget.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)


def boxed(title: str, part: QWidget) -> QGroupBox:
    """Put a part into a box with a title."""
    box = QGroupBox(title)
    inner = QVBoxLayout(box)
    inner.setContentsMargins(8, 8, 8, 8)
    inner.addWidget(part)
    return box


def scrolled(content: QWidget) -> QScrollArea:
    """Let a page scroll up and down; it is as wide as its dock."""
    area = QScrollArea()
    area.setWidget(content)
    area.setWidgetResizable(True)
    area.setFrameShape(QFrame.Shape.NoFrame)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    return area
