"""The switch of the live preview, its LIVE badge, and a line that says why it pauses."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from napari_cellenhance.widgets._preview_request import PreviewStatus, badge_text

__all__ = ["PreviewBadge"]


class PreviewBadge(QWidget):
    """A check box, a badge with the latency of the last update, and a hint."""

    toggled = Signal(bool)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.switch = QCheckBox("Live preview")
        self.switch.setToolTip(
            "Show the enhanced view as a layer that follows the slider, the camera and the slices. "
            "It shows what Run gives, unless it says approximate."
        )
        self.badge = QLabel()
        self.badge.setToolTip("Time from the last change to the picture, in milliseconds.")
        self.badge.setAccessibleName("State of the live preview")
        font = self.badge.font()
        font.setBold(True)
        self.badge.setFont(font)
        self.hint = QLabel()
        self.hint.setWordWrap(True)
        self.hint.setVisible(False)
        row = QHBoxLayout()
        row.addWidget(self.switch)
        row.addStretch(1)
        row.addWidget(self.badge)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row)
        layout.addWidget(self.hint)
        self.switch.toggled.connect(self._on_toggled)

    def _on_toggled(self, is_on: bool) -> None:
        self.toggled.emit(is_on)

    def show_status(self, status: PreviewStatus) -> None:
        """Show the state; an "off" that came from outside unticks the box."""
        self.badge.setText(badge_text(status))
        self.hint.setText(status.hint)
        self.hint.setVisible(bool(status.hint))
        if status.state == "off" and self.switch.isChecked():
            was_blocked = self.switch.blockSignals(True)
            self.switch.setChecked(False)
            self.switch.blockSignals(was_blocked)
