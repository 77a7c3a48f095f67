"""Rows of a form, and boxes that say what they are for; the same look in every dock."""

from __future__ import annotations

from qtpy.QtCore import QEvent, QObject, QSize, Qt
from qtpy.QtWidgets import (
    QComboBox,
    QFormLayout,
    QFrame,
    QGroupBox,
    QScrollArea,
    QSizePolicy,
    QStyle,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)  # fmt: skip

__all__ = ["boxed", "describe", "new_form", "new_tabs", "scrolled"]


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


class _Page(QScrollArea):
    """Scrolls up and down, and asks for the width that its content needs, whatever the size of the letters."""

    def minimumSizeHint(self) -> QSize:
        """As wide as the content beside the scroll bar."""
        hint = super().minimumSizeHint()
        content, bar, style = self.widget(), self.verticalScrollBar(), self.style()
        if content is not None and bar is not None:
            between = style.pixelMetric(QStyle.PixelMetric.PM_ScrollView_ScrollBarSpacing) if style else 0
            hint.setWidth(content.minimumSizeHint().width() + bar.sizeHint().width() + between + 2)
        return hint

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: N802
        """Follow the content when it needs another width: a part was unfolded, a sentence came, letters grew."""
        if event is not None and event.type() == QEvent.Type.LayoutRequest and watched is self.widget():
            self.updateGeometry()
        return bool(super().eventFilter(watched, event))


def new_tabs() -> QTabWidget:
    """Make tabs that stay in sight with their whole names, however narrow the dock."""
    tabs = QTabWidget()
    bar = tabs.tabBar()
    if bar is not None:
        bar.setElideMode(Qt.TextElideMode.ElideNone)
        bar.setUsesScrollButtons(False)
    return tabs


def scrolled(content: QWidget) -> QScrollArea:
    """Let a page scroll up and down; its dock is at least as wide as it."""
    area = _Page()
    area.setWidget(content)
    area.setWidgetResizable(True)
    area.setFrameShape(QFrame.Shape.NoFrame)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    return area
