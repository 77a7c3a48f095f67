"""Small pictures of what every model makes of the view."""

from __future__ import annotations

from typing import Any

import numpy as np
from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QIcon, QImage, QPixmap
from qtpy.QtWidgets import (
    QHBoxLayout,
    QLabel,
    QListView,
    QListWidget,
    QListWidgetItem,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_cellenhance.workflows.try_models import Trial

__all__ = ["Gallery"]

_SIDE_PX = 128


class Gallery(QWidget):
    """A button and pictures; ``chosen`` comes with the id of the model that was clicked."""

    wanted = Signal()
    chosen = Signal(str)

    def __init__(self, layer_picker: QWidget, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        words = QLabel("The middle of what you see, by every filter that is here, at its default strength.")
        words.setWordWrap(True)
        self.button = QPushButton("What does each model do to my image?")
        self.button.setToolTip("Up to 256×256 px of the view are computed by one model after the other.")
        self.pictures = QListWidget()
        self.pictures.setAccessibleName("What the models make of the view")
        self.pictures.setToolTip("Click a picture to open the dock of its model, with that model chosen.")
        self.pictures.setViewMode(QListView.ViewMode.IconMode)
        self.pictures.setIconSize(QSize(_SIDE_PX, _SIDE_PX))
        self.pictures.setGridSize(QSize(_SIDE_PX + 16, _SIDE_PX + 40))
        self.pictures.setResizeMode(QListView.ResizeMode.Adjust)
        self.pictures.setMovement(QListView.Movement.Static)
        self.pictures.setWordWrap(True)
        self.pictures.setMinimumHeight(_SIDE_PX + 70)
        row = QHBoxLayout()
        row.addWidget(QLabel("Image"))
        row.addWidget(layer_picker, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(words)
        layout.addLayout(row)
        layout.addWidget(self.button)
        layout.addWidget(self.pictures, 1)
        self.button.clicked.connect(self._on_button)
        self.pictures.itemClicked.connect(self._on_item)

    def clear(self) -> None:
        """Take the pictures away."""
        self.pictures.clear()

    def add(self, trial: Trial) -> None:
        """Add a picture, or a reason why there is none."""
        title = "Your image" if trial.info is None else trial.info.title
        item = QListWidgetItem(title if trial.image is not None else f"{title}: does not fit")
        item.setTextAlignment(Qt.AlignmentFlag.AlignHCenter | Qt.AlignmentFlag.AlignTop)
        item.setToolTip(title if trial.image is not None else trial.reason)
        if trial.image is not None:
            item.setIcon(QIcon(_pixmap(trial.image)))
        if trial.info is not None and trial.image is not None:
            item.setData(Qt.ItemDataRole.UserRole, trial.info.id)
        self.pictures.addItem(item)

    def ids(self) -> list[str]:
        """Ids of the models that have a picture."""
        items = [self.pictures.item(i) for i in range(self.pictures.count())]
        found = [item.data(Qt.ItemDataRole.UserRole) for item in items if item is not None]
        return [str(model_id) for model_id in found if model_id]

    def _on_button(self) -> None:
        self.wanted.emit()

    def _on_item(self, item: QListWidgetItem) -> None:
        if model_id := item.data(Qt.ItemDataRole.UserRole):
            self.chosen.emit(str(model_id))


def _pixmap(image: Any) -> QPixmap:
    pixels = np.ascontiguousarray(image, np.uint8)
    height, width = pixels.shape
    picture = QImage(pixels.tobytes(), width, height, width, QImage.Format.Format_Grayscale8)
    return QPixmap.fromImage(picture).scaled(
        _SIDE_PX, _SIDE_PX, Qt.AspectRatioMode.KeepAspectRatio, Qt.TransformationMode.SmoothTransformation
    )
