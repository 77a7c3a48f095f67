"""The slider of “do not trust”: from which likely error on, with Labels layers that follow it."""

from __future__ import annotations

from functools import partial
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QHBoxLayout, QLabel, QSlider, QVBoxLayout, QWidget

from napari_cellenhance.widgets._guard import error_sentence, guarded
from napari_cellenhance.widgets._layers import METADATA_KEY
from napari_cellenhance.widgets._restore_results import doubt_record
from napari_cellenhance.widgets._status import alarm
from napari_cellenhance.widgets._worker import LatestOnly, Outcome
from napari_cellenhance.workflows.restore_layers import DEFAULT_SHARE, Doubt, RestoredLayer

__all__ = ["DoubtSlider"]

_PER_PERCENT = 10
_MOST_PERCENT = 30.0
_TIP = (
    "A pixel is not trusted where its likely error (half of the errors are smaller) exceeds this share of the contrast "
    "of the restored image. The Labels layers follow the slider."
)


class DoubtSlider(QWidget):
    """Holds the uncertainty of results whose Labels layers are still in the viewer.

    Parameters
    ----------
    viewer : ViewerModel
    """

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._followed: list[tuple[Any, RestoredLayer]] = []
        self._asked: list[Any] = []
        self._ticket = 0
        self._is_chosen = False
        self._work = LatestOnly()
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(0, round(_MOST_PERCENT * _PER_PERCENT))
        self.slider.setValue(round(100 * DEFAULT_SHARE * _PER_PERCENT))
        self.slider.setAccessibleName("Largest likely error that is trusted")
        self.slider.setToolTip(_TIP)
        self.value = QLabel()
        self.note = QLabel()
        self.note.setWordWrap(True)
        self.note.setToolTip(_TIP)
        row = QHBoxLayout()
        row.addWidget(self.slider, 1)
        row.addWidget(self.value)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(16, 0, 0, 0)
        layout.addLayout(row)
        layout.addWidget(self.note)
        self.slider.valueChanged.connect(self._on_chosen)
        self._work.delivered.connect(self._on_doubted)
        self._say()

    @property
    def share(self) -> float:
        """Share of the contrast."""
        return self.slider.value() / _PER_PERCENT / 100

    @property
    def chosen_share(self) -> float | None:
        """The same where somebody has set it; else each result may begin where it tells most."""
        return self.share if self._is_chosen else None

    @property
    def ticket(self) -> int:
        """Number of the newest request."""
        return self._ticket

    def follow(self, layer: Any, found: RestoredLayer) -> None:
        """Let a Labels layer follow; where nobody has set the slider, begin at the share that was found for it."""
        self._forget_removed()
        self._followed.append((layer, found))
        if not self._is_chosen:
            shares = (one.first_doubt.share for _, one in self._followed if one.first_doubt is not None)
            was_blocked = self.slider.blockSignals(True)
            self.slider.setValue(round(100 * max(shares, default=DEFAULT_SHARE) * _PER_PERCENT))
            self.slider.blockSignals(was_blocked)
        self._on_moved()

    @guarded
    def _on_chosen(self) -> None:
        self._is_chosen = True
        self._on_moved()

    def _forget_removed(self) -> None:
        self._followed = [one for one in self._followed if one[0] in self._viewer.layers]

    def _on_moved(self) -> None:
        self._say()
        self._forget_removed()
        if self._followed:
            self._ticket = self._work.submit(partial(_doubts, [one[1] for one in self._followed], self.share))
            self._asked = [one[0] for one in self._followed]

    def _say(self, doubts: list[Doubt] | None = None) -> None:
        self.value.setText(f"{100 * self.share:.1f} %")
        text = "Not trusted: a likely error above this share of the contrast."
        if doubts:
            shares = ", ".join(f"{100 * doubt.doubted:.1f} %" for doubt in doubts[-3:])
            text = f"Not trusted: {shares} of the pixels, whose likely error is above this share of the contrast."
            usual = max(one.usually_doubted for _, one in self._followed) if self._followed else 0.0
            if not self._is_chosen and self.share > DEFAULT_SHARE:
                text += (
                    f" At the usual {DEFAULT_SHARE:.0%} it would be {usual:.0%} of them: the network is unsure nearly "
                    "everywhere. These are the places where it is least sure; teaching for longer helps."
                )
        self.note.setText(text)

    @guarded
    def _on_doubted(self, ticket: int, outcome: Outcome) -> None:
        if ticket != self._ticket:
            return
        if outcome.error is not None:
            self.show_error(error_sentence(outcome.error))
            return
        doubts: list[Doubt] = outcome.value
        for layer, doubt in zip(self._asked, doubts, strict=True):
            if layer in self._viewer.layers:
                layer.data = doubt.labels.reshape(layer.data.shape)  # with the axis that keeps sliders in line
                layer.metadata[METADATA_KEY] = {**layer.metadata[METADATA_KEY], **doubt_record(doubt)}
        self._say(doubts)

    def show_error(self, message: str) -> None:
        """Show a sentence under the slider."""
        self.note.setText(alarm(message))

    def abandon(self) -> None:
        """End the thread."""
        self._work.close()

    def close_down(self) -> None:
        """End the thread, and forget what is held."""
        self._work.close()
        self._followed = []


def _doubts(found: list[RestoredLayer], share: float) -> list[Doubt]:
    doubts = [one.doubt(share) for one in found]
    return [doubt for doubt in doubts if doubt is not None]
