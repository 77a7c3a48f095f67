"""Docks of this plugin lie behind each other as tabs: none of them is legible at half the height of a window."""

from __future__ import annotations

from functools import partial

from qtpy.QtCore import QEvent, QObject, QTimer
from qtpy.QtWidgets import QDockWidget, QMainWindow, QWidget

__all__ = ["PANELS", "TabWhenShown", "share_place"]

PANELS = ("cellenhance-enhance", "cellenhance-measure", "cellenhance-train")
"""Object names of the panels."""


def share_place(panel: QWidget) -> None:
    """Lay the dock of a panel over another dock of this plugin that is on the same side, and bring it to the front.

    Does nothing where there is no other one, and with docks that float.

    Parameters
    ----------
    panel : QWidget
        Inside a dock, or not.
    """
    dock = _dock_of(panel)
    window = None if dock is None else dock.parent()
    if dock is None or not isinstance(window, QMainWindow) or dock.isFloating():
        return
    for other in window.findChildren(QDockWidget):
        is_beside = other is not dock and not other.isFloating() and not other.isHidden()
        if not is_beside or not any(other.findChild(QWidget, name) is not None for name in PANELS):
            continue
        if window.dockWidgetArea(other) == window.dockWidgetArea(dock):
            window.tabifyDockWidget(other, dock)
            dock.raise_()
            return


def _dock_of(panel: QWidget) -> QDockWidget | None:
    parent = panel.parent()
    while parent is not None and not isinstance(parent, QDockWidget):
        parent = parent.parent()
    return parent


class TabWhenShown(QObject):
    """Calls :func:`share_place` once, when its panel has been shown and napari has laid the dock out.

    Parameters
    ----------
    panel : QWidget
        Owns it.
    """

    def __init__(self, panel: QWidget) -> None:
        super().__init__(panel)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(partial(share_place, panel))
        panel.installEventFilter(self)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: N802
        """Wait for the panel to be shown; nothing is held back."""
        if watched is not None and event is not None and event.type() == QEvent.Type.Show:
            watched.removeEventFilter(self)
            self._timer.start(100)
        return False
