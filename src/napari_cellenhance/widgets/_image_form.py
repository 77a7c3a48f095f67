"""What the image is: its axes, its channels, and whether objects are darker than the ground."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QComboBox, QFormLayout, QLabel, QLineEdit, QSizePolicy, QVBoxLayout, QWidget

from napari_cellenhance.core.axes import check_axes, select_channels, to_canonical
from napari_cellenhance.core.errors import CellEnhanceError
from napari_cellenhance.core.normalize import sanitize, suggest_dark_objects
from napari_cellenhance.widgets._layers import Channels, LayerView, axes_of, channel_choices
from napari_cellenhance.widgets._status import alarm

__all__ = ["DarkSuggestion", "ImageForm", "axes_problem", "has_stack", "sample_plane", "suggest_dark"]

_SAMPLE_PX = 256


@dataclass(frozen=True, slots=True)
class DarkSuggestion:
    """Whether the objects look dark, and why."""

    is_dark: bool
    reason: str


def axes_problem(axes: str, shape: tuple[int, ...]) -> str:
    """Say what is wrong with the axes; empty when nothing is."""
    try:
        check_axes(axes, shape)
    except CellEnhanceError as error:
        return str(error)
    return ""


def has_stack(axes: str, shape: tuple[int, ...]) -> bool:
    """Whether there are several planes along T or Z, so that statistics can be shared."""
    if len(axes) != len(shape):
        return False
    return any(n > 1 for letter, n in zip(axes.upper(), shape, strict=True) if letter in "TZ")


def sample_plane(view: LayerView, axes: str) -> NDArray[np.float32]:
    """Read a small grey sample of the plane on screen: every n-th pixel of the coarsest level.

    Call it in a thread: a lazy layer computes here.
    """
    axes = check_axes(axes, view.shape)
    level = len(view.levels) - 1
    data = view.levels[level]
    picks: list[slice] = []
    for axis, letter in enumerate(axes):
        n = int(data.shape[axis])
        if letter in "YX":
            picks.append(slice(0, n, max(1, n // _SAMPLE_PX)))
        elif letter in "CS":
            picks.append(slice(None))
        else:
            at = min(n - 1, int(view.index[axis] / view.factors[level][axis]))
            picks.append(slice(at, at + 1))
    sample = np.asarray(data[tuple(picks)])
    grey = to_canonical(sample, axes)
    if set(axes) & set("CS"):
        grey, _ = select_channels(grey, axes, "grey")
    plane, _ = sanitize(np.asarray(grey)[0, 0, 0])
    return np.asarray(plane, np.float32)


def suggest_dark(view: LayerView, axes: str) -> DarkSuggestion:
    """Look at a small sample and suggest the contrast."""
    is_dark, reason = suggest_dark_objects(sample_plane(view, axes))
    return DarkSuggestion(bool(is_dark), reason)


class ImageForm(QWidget):
    """Axes, channels and contrast of the chosen layer; guesses are shown and can be corrected.

    Parameters
    ----------
    wants_one_plane : bool
        One grey image is needed, of a plane: "each channel by itself" is not offered, nor is the contrast asked for;
        and the axes of a plane are not shown, since there is nothing to correct.
    asks_contrast : bool
        Whether it matters that objects are dark; if not, the axes of a plane are not shown either.
    """

    changed = Signal()
    suggestion_wanted = Signal()

    def __init__(
        self, parent: QWidget | None = None, *, wants_one_plane: bool = False, asks_contrast: bool = True
    ) -> None:
        super().__init__(parent)
        self._wants_one_plane = wants_one_plane
        self._asks_contrast = asks_contrast and not wants_one_plane
        self._shape: tuple[int, ...] = ()
        self._note = ""
        self._is_dark_chosen_by_hand = False
        self.axes = QLineEdit()
        self.axes.setMaxLength(8)
        self.axes.setAccessibleName("Axes")
        self.axes.setToolTip(
            "One letter per dimension: T time, C channel, Z depth, Y rows, X columns, S colour samples. "
            "Taken from the layer's axis labels, else guessed; correct it if it is wrong."
        )
        self.axes_note = QLabel()
        self.channels = QComboBox()
        self.channels.setAccessibleName("Channels")
        self.channels.setToolTip("Which channels or colours to enhance. Grey and one channel give one image.")
        self.channels.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.channels.setMinimumContentsLength(10)
        self.channels.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.dark = QCheckBox("Objects are dark")
        self.dark.setToolTip(
            "Tick it when objects are darker than the ground (bright field, stained tissue). "
            "The filters look for bright objects, so the contrast is inverted first."
        )
        self.dark_note = QLabel()
        for note in (self.axes_note, self.dark_note):
            note.setWordWrap(True)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._form = QFormLayout()
        self._form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        self._form.addRow("Axes", self.axes)
        self._form.addRow("Channels", self.channels)
        layout.addLayout(self._form)
        layout.addWidget(self.axes_note)
        layout.addWidget(self.dark)
        layout.addWidget(self.dark_note)
        self.dark.setVisible(self._asks_contrast)
        self.axes.textChanged.connect(self._on_axes)
        self.channels.currentIndexChanged.connect(self._tell)
        self.dark.clicked.connect(self._on_dark_clicked)
        self.dark.toggled.connect(self._tell)
        self.show_view(None)

    @property
    def axes_text(self) -> str:
        """Axes as typed, upper case."""
        return str(self.axes.text()).strip().upper()

    @property
    def chosen_channels(self) -> Channels:
        """Channels for the request."""
        data = self.channels.currentData()
        return "all" if data is None else tuple(data) if isinstance(data, list | tuple) else data

    @property
    def is_dark_chosen_by_hand(self) -> bool:
        """Whether the user has said what the contrast is."""
        return self._is_dark_chosen_by_hand

    def problem(self) -> str:
        """What is wrong with the axes; empty when nothing is."""
        if not self._shape:
            return ""
        if self._note and not self.axes_text:
            return self._note  # why no axes could be guessed
        return axes_problem(self.axes_text, self._shape)

    def show_view(self, view: LayerView | None) -> None:
        """Fill in the guesses for another layer."""
        self._shape = () if view is None else view.shape
        self._is_dark_chosen_by_hand = False
        self.setEnabled(view is not None)
        axes, note = ("", "") if view is None else axes_of(view)
        self._note = note if view is not None and not axes else ""
        was_blocked = self.axes.blockSignals(True)
        self.axes.setText(axes)
        self.axes.blockSignals(was_blocked)
        self.dark_note.setText("")
        self.dark_note.setVisible(False)
        self._on_axes()
        is_plain = not self._asks_contrast and view is not None and view.ndim == 2
        self._form.setRowVisible(self.axes, not is_plain or bool(self.problem()))
        if view is not None and not self.problem() and not is_plain:
            self.axes_note.setText(note)
            self.axes_note.setVisible(bool(note))

    def choose(self, axes: str, channels: Channels) -> None:
        """Take over axes and channels that were chosen elsewhere for the same image."""
        self.axes.setText(axes)
        for index in range(self.channels.count()):
            value = self.channels.itemData(index)
            if value == channels or (not isinstance(value, str) and tuple(value) == channels):
                self.channels.setCurrentIndex(index)

    def show_suggestion(self, suggestion: DarkSuggestion) -> None:
        """Tick or untick "dark" unless the user has said so already; always say why."""
        self.dark_note.setText(suggestion.reason)
        self.dark_note.setVisible(bool(suggestion.reason))
        if not self._is_dark_chosen_by_hand:
            self.dark.setChecked(suggestion.is_dark)

    def _on_axes(self) -> None:
        problem = self.problem()
        self.axes_note.setText(alarm(problem) if problem else "")
        self.axes_note.setVisible(bool(problem))
        choices = [] if problem else channel_choices(self.axes_text, self._shape)
        if self._wants_one_plane:
            choices = [(title, value) for title, value in choices if value != "all"]
        before = self.channels.currentText()
        was_blocked = self.channels.blockSignals(True)
        self.channels.clear()
        for title, value in choices:
            self.channels.addItem(title, value)
        self.channels.setCurrentIndex(max(0, self.channels.findText(before)) if choices else -1)
        self.channels.blockSignals(was_blocked)
        self._form.setRowVisible(self.channels, bool(choices))
        if self._shape and not problem:
            self.suggestion_wanted.emit()
        self._tell()

    def _on_dark_clicked(self) -> None:
        self._is_dark_chosen_by_hand = True

    def _tell(self) -> None:
        self.changed.emit()
