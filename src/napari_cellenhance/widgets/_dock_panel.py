"""What every dock does when it is closed."""

from __future__ import annotations

import threading
from typing import Any

from qtpy.QtCore import QEvent, QSize
from qtpy.QtGui import QCloseEvent
from qtpy.QtWidgets import QWidget

from napari_cellenhance.widgets._docking import TabWhenShown
from napari_cellenhance.widgets._guard import guarded
from napari_cellenhance.widgets._status import StatusFoot

__all__ = ["DockPanel"]

_LEAST_WIDTH_PX = 365
"""From here on the titles of all docks are legible."""


class DockPanel(QWidget):
    """A panel that notices the end of its dock, cancels its job and lets go of the viewer, once.

    Parameters
    ----------
    viewer : ViewerModel
    name : str
        Object name, one of ``_docking.PANELS``.
    """

    foot: StatusFoot

    def __init__(self, viewer: Any, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self.setObjectName(name)
        TabWhenShown(self)
        self._gone = threading.Event()
        self._job: Any = None

    @property
    def viewer(self) -> Any:
        """The viewer that the panel belongs to."""
        return self._viewer

    def minimumSizeHint(self) -> QSize:
        """As wide as what the dock holds: with large letters that is more than its title needs."""
        return super().minimumSizeHint().expandedTo(QSize(_LEAST_WIDTH_PX, 0))

    def event(self, event: QEvent | None) -> bool:
        """Notice that the dock was closed: napari takes the panel out of it without a close event."""
        if (
            event is not None
            and event.type() == QEvent.Type.ParentChange
            and self.parent() is None
            and not self._gone.is_set()
        ):
            self.shut_down()
        return bool(super().event(event))

    def closeEvent(self, event: QCloseEvent | None) -> None:
        """Stop everything with the panel."""
        self.shut_down()
        super().closeEvent(event)

    @guarded
    def shut_down(self) -> None:
        """Cancel the job, let go of the viewer. Harmless when done twice."""
        if self._gone.is_set():
            return
        self._gone.set()
        if self._job is not None:
            self._job.cancel()
        self.let_go()

    @guarded
    def _on_cancel(self) -> None:
        if self._job is not None:
            self._job.cancel()
            self.foot.set_cancelling()

    def let_go(self) -> None:
        """Release what the panel holds besides its job."""

    def show_error(self, message: str) -> None:
        """Show a sentence to the user."""
