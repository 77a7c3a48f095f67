"""One noisy image: its axes and channels, as a learner and as a denoiser reads it."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from napari_cellenhance.widgets._image_form import ImageForm
from napari_cellenhance.widgets._layers import LayerView, snapshot
from napari_cellenhance.widgets._teach_place import Window
from napari_cellenhance.workflows.noisy_images import NoisyLayer

__all__ = ["DenoiseLayerForm"]

_RGB_NOTE = "A colour image: its grey is denoised. Choose one colour under “Channels” if that shows more."


class DenoiseLayerForm(QWidget):
    """Form of one image layer.

    Parameters
    ----------
    viewer : ViewerModel
    layer : Image
        Only read.
    """

    changed = Signal()

    def __init__(self, viewer: Any, layer: Any, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self.layer = layer
        self.image = ImageForm(wants_one_plane=bool(layer.rgb), asks_contrast=False)
        self.note = QLabel(_RGB_NOTE)
        self.note.setWordWrap(True)
        self.note.setVisible(bool(layer.rgb))
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.image)
        layout.addWidget(self.note)
        self.image.changed.connect(self.changed)
        self.image.show_view(self.view())

    def view(self) -> LayerView:
        """The image as it is now."""
        return snapshot(self.layer, self._viewer.dims)

    def channels(self) -> Any:
        """Channels for the request."""
        chosen = self.image.chosen_channels
        return "grey" if self.layer.rgb and chosen == "all" else chosen

    def seen(self) -> Window:
        """What is on screen of the image now."""
        return Window(view=self.view(), axes=self.image.axes_text, channels=self.channels())

    def problem(self) -> str:
        """Why this layer cannot be read; empty if it can."""
        return self.image.problem()

    def noisy_layer(self) -> NoisyLayer:
        """What the form says.

        Raises
        ------
        CellEnhanceError
            The size of the image is not known.
        """
        view = self.view()
        return NoisyLayer(name=view.name, image=view.levels[0], axes=self.image.axes_text, channels=self.channels())

    def close_down(self) -> None:
        """Nothing to let go of."""
