"""Docks of this plugin lie behind each other as tabs: none of them is legible at half the height of a window."""

from __future__ import annotations

from functools import partial
from typing import Any

from qtpy.QtCore import QEvent, QObject, QTimer
from qtpy.QtWidgets import QApplication, QDockWidget, QMainWindow, QWidget

from napari_cellenhance.widgets._settings import PLUGIN

__all__ = [
    "BATCH", "COMPARE", "CROPS", "DENOISE", "ENHANCE", "KEEP", "MEASURE", "MODELS", "PANELS", "RESTORE", "TEACH",
    "TRAIN", "TabWhenShown", "bring_to_front", "open_panel", "share_place",
]  # fmt: skip

ENHANCE, MEASURE, TRAIN, TEACH, DENOISE, RESTORE, CROPS, KEEP, BATCH, COMPARE, MODELS = PANELS = (
    "cellenhance-enhance", "cellenhance-measure", "cellenhance-train", "cellenhance-teach", "cellenhance-denoise",
    "cellenhance-restore", "cellenhance-crops", "cellenhance-keep", "cellenhance-batch", "cellenhance-compare",
    "cellenhance-models",
)  # fmt: skip
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


def bring_to_front(panel: QWidget) -> None:
    """Show the dock of a panel, before all others that share its place. Does nothing for a panel without a dock."""
    dock = _dock_of(panel)
    if dock is not None:
        dock.show()
        dock.raise_()


def open_panel(viewer: Any, name: str, title: str) -> Any:
    """Give the panel of a viewer, in front: the one that is open already, else a new one.

    napari keeps docks by the name of the door they came through, so that asking it alone would open a second panel
    beside one that came out of the menu.

    Parameters
    ----------
    viewer : Viewer
    name : str
        One of ``PANELS``.
    title : str
        Of the dock in the plugin's manifest.
    """
    panel = _open_panel_of(viewer, name)
    if panel is None:
        _, panel = viewer.window.add_plugin_dock_widget(PLUGIN, title)
    bring_to_front(panel)
    return panel


def _open_panel_of(viewer: Any, name: str) -> QWidget | None:
    app = QApplication.instance()
    widgets = app.allWidgets() if isinstance(app, QApplication) else []
    wanted = bare(viewer)
    found = (w for w in widgets if w.objectName() == name and bare(getattr(w, "viewer", None)) is wanted)
    return next((panel for panel in found if _dock_of(panel) is not None), None)


def bare(viewer: Any) -> Any:
    """Take away the proxy through which napari hands its viewer to plugins."""
    return getattr(viewer, "__wrapped__", viewer)


def _dock_of(panel: QWidget) -> QDockWidget | None:
    parent = panel.parent()
    while parent is not None and not isinstance(parent, QDockWidget):
        parent = parent.parent()
    return parent


class TabWhenShown(QObject):
    """Keeps the dock of a panel where it can be seen.

    Calls :func:`share_place` once, when the panel has been shown and napari has laid the dock out. From then on a dock
    that was closed comes back to the front. napari's menu switches docks on and off, and one that lies behind others
    counts as on: chosen there, it comes to the front instead of going away.

    Parameters
    ----------
    panel : QWidget
        Owns it.
    """

    def __init__(self, panel: QWidget) -> None:
        super().__init__(panel)
        self._panel = panel
        self._dock: QDockWidget | None = None
        self._is_in_front = True
        self._was_closed = False
        self._timer = _once(self, self._settle)
        self._raise = _once(self, partial(bring_to_front, panel))
        panel.installEventFilter(self)

    def _settle(self) -> None:
        share_place(self._panel)
        self._dock = _dock_of(self._panel)
        if self._dock is not None:
            self._dock.installEventFilter(self)
            self._dock.visibilityChanged.connect(self._on_visibility)

    def _on_visibility(self, is_in_front: bool) -> None:
        self._is_in_front = is_in_front

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: N802
        """Wait for the panel and its dock to be shown or closed; nothing is held back."""
        if watched is None or event is None:
            return False
        if watched is self._panel and event.type() == QEvent.Type.Show:
            watched.removeEventFilter(self)
            self._timer.start(100)
        elif watched is self._dock and isinstance(watched, QDockWidget):
            self._on_dock(watched, event.type())
        return False

    def _on_dock(self, dock: QDockWidget, kind: QEvent.Type) -> None:
        if kind == QEvent.Type.Hide:
            self._raise.stop()  # what was wished for earlier does not count any more
            is_closed = dock.isHidden()  # not so where the whole window goes
            self._was_closed = is_closed and self._is_in_front
            if is_closed and not self._is_in_front:
                self._raise.start(0)
        elif kind == QEvent.Type.Show and self._was_closed:
            self._was_closed = False
            self._raise.start(0)


def _once(owner: QObject, call: Any) -> QTimer:
    timer = QTimer(owner)
    timer.setSingleShot(True)
    timer.timeout.connect(call)
    return timer
