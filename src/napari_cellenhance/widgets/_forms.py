"""Rows of a form, and boxes that say what they are for; the same look in every dock."""

from __future__ import annotations

from qtpy.QtWidgets import QComboBox, QFormLayout, QSizePolicy, QWidget

__all__ = ["describe", "new_form"]


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
