"""Rows of a form, and boxes that say what they are for; the same look in every dock."""

from __future__ import annotations

from qtpy.QtCore import QEvent, QObject, QSize, Qt
from qtpy.QtGui import QHelpEvent
from qtpy.QtWidgets import (
    QComboBox,
    QFormLayout,
    QFrame,
    QGroupBox,
    QScrollArea,
    QSizePolicy,
    QStyle,
    QStyleOptionComboBox,
    QTabWidget,
    QToolTip,
    QVBoxLayout,
    QWidget,
)  # fmt: skip

__all__ = ["boxed", "describe", "new_form", "new_tabs", "scrolled"]

_AROUND_PX = 16


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
        widget.installEventFilter(_WholeChoice(widget))
    widget.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)


class _WholeChoice(QObject):
    """Shows the whole choice above the tip of a list that is too narrow for it; the open list has room for all."""

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: N802
        """Add the choice to the tip; widen the list that drops down before it is laid out."""
        if not isinstance(watched, QComboBox) or event is None:
            return False
        if event.type() in (QEvent.Type.MouseButtonPress, QEvent.Type.KeyPress):
            view = watched.view()
            if view is not None:
                view.setMinimumWidth(_needed_px(watched))
        if not isinstance(event, QHelpEvent) or event.type() != QEvent.Type.ToolTip or not _is_cut(watched):
            return False
        QToolTip.showText(event.globalPos(), f"{watched.currentText()}\n{watched.toolTip()}", watched)
        return True


def _is_cut(combo: QComboBox) -> bool:
    """Whether a list is too narrow for the words of its choice."""
    option, style = QStyleOptionComboBox(), combo.style()
    combo.initStyleOption(option)
    if style is None:
        return False
    field = style.subControlRect(
        QStyle.ComplexControl.CC_ComboBox, option, QStyle.SubControl.SC_ComboBoxEditField, combo
    )  # fmt: skip
    return combo.fontMetrics().horizontalAdvance(combo.currentText()) > field.width()


def _needed_px(combo: QComboBox) -> int:
    """Width of the longest entry, with the bar beside a long list."""
    texts = [combo.fontMetrics().horizontalAdvance(combo.itemText(i)) for i in range(combo.count())]
    style = combo.style()
    bar = style.pixelMetric(QStyle.PixelMetric.PM_ScrollBarExtent) if style is not None else 0
    return max(texts, default=0) + bar + _AROUND_PX


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
