"""What the tabs of the Measure dock have in common: a job to run, results to show, tables and pictures to save."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QApplication, QFileDialog, QHBoxLayout, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from napari_cellenhance.io.safe_write import safe_name
from napari_cellenhance.io.tables import table_text, write_table
from napari_cellenhance.widgets._guard import error_sentence, guarded
from napari_cellenhance.widgets._measure_layers import Chosen
from napari_cellenhance.widgets._plot import LinePlot
from napari_cellenhance.widgets._worker import LatestOnly, Outcome
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress

__all__ = ["LiveTab", "MeasureTab", "TabJob", "number_text", "unique_names", "with_sd"]


@dataclass(frozen=True, slots=True)
class TabJob:
    """Work for a thread, and what to do with its value on the GUI thread; ``show`` returns a sentence."""

    title: str
    work: Callable[[OnProgress, IsCancelled], Any]
    show: Callable[[Any], str]


def number_text(value: float | None, digits: int = 3) -> str:
    """Write a number for the table; a dash where it cannot be told.

    >>> number_text(0.12345), number_text(float("nan")), number_text(525.04, 2), number_text(12345.6, 2)
    ('0.123', '–', '525.04', '12 346')
    """
    if value is None or np.isnan(value):
        return "–"
    if np.isinf(value):
        return "∞" if value > 0 else "−∞"
    text = f"{value:,.{0 if abs(value) >= 10000 else digits}f}"
    return text.replace(",", " ").replace("-", "−")


def with_sd(mean: float, sd: float, digits: int = 3) -> str:
    """Mean ± standard deviation; the mean alone where there is none.

    >>> with_sd(0.5, 0.1, 2)
    '0.50 ± 0.10'
    """
    return number_text(mean, digits) if np.isnan(sd) else f"{number_text(mean, digits)} ± {number_text(sd, digits)}"


class MeasureTab(QWidget):
    """One tab. It never touches the viewer: what it wants to run or to add it says by signals.

    Signals: ``wanted`` with a callable ``Chosen`` → :class:`TabJob`; ``layers_made`` with a list of layer tuples;
    ``told`` with a sentence; ``failed`` with a sentence that must be seen; ``changed`` when a setting changed.
    """

    title = ""
    run_text = "Run"
    run_tip = ""
    no_layers = "Open an image (File ▸ Open Sample ▸ CellEnhance has some) and enhance it, then measure here."
    """What to do while there is no layer to measure."""
    has_own_layers = False
    """Whether the tab chooses its layers itself, by :meth:`chosen`; else the form above the tabs does."""
    is_live = False
    """Whether the tab follows the viewer by :meth:`draw_live`."""

    wanted = Signal(object)
    layers_made = Signal(object)
    told = Signal(str)
    failed = Signal(str)
    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.column = QVBoxLayout(self)
        self.column.setContentsMargins(6, 6, 6, 6)

    def show_error(self, message: str) -> None:
        """Hand a sentence to the panel."""
        self.failed.emit(message)

    # --- for the panel ------------------------------------------------------------------

    def problem(self, chosen: Chosen) -> str:
        """Why the job cannot run with these layers; empty when it can."""
        return ""

    def job(self, chosen: Chosen) -> TabJob:
        """What Run does."""
        raise NotImplementedError

    def chosen(self, dims: Any) -> Chosen | None:
        """Freeze the layers of a tab that has pickers of its own; None without any. Call it on the GUI thread."""
        return None

    def draw_live(self, chosen: Chosen) -> str:
        """Show what is there now, without a job; returns a hint."""
        return ""

    def cannot_draw(self, problem: str) -> None:
        """Nothing can be shown now, and why."""

    def release(self) -> None:
        """Let threads end, and everything that is listened to go."""

    # --- tables and pictures --------------------------------------------------------------

    def rows_to_save(self) -> list[dict[str, Any]]:
        """Rows of the table that is shown; empty before the first result."""
        return []

    def record_to_save(self) -> Mapping[str, Any]:
        """What was measured."""
        return {}

    def add_save_buttons(self, plot: LinePlot | None = None, *, has_copy: bool = True) -> None:
        """Buttons that copy and save the table, and save the picture."""
        row = QHBoxLayout()
        self.copy_button, self.csv_button, self.png_button = _button("Copy"), _button("Save CSV…"), _button("Save PNG…")
        self.copy_button.setToolTip("Copy the table, to paste it into a spreadsheet.")
        self.csv_button.setToolTip(
            "Save the table as CSV; a JSON file beside it tells which layers were measured, and how."
        )
        self.png_button.setToolTip("Save the plot as a picture, dark on white.")
        self.copy_button.clicked.connect(self._copy)
        self.csv_button.clicked.connect(self._ask_csv)
        self.png_button.clicked.connect(self._ask_png)
        self._plot = plot
        for button, is_there in ((self.copy_button, has_copy), (self.csv_button, True), (self.png_button, bool(plot))):
            button.setVisible(is_there)
            if is_there:
                row.addWidget(button)
        self.column.addLayout(row)
        self.enable_saving()

    def enable_saving(self) -> None:
        """Grey the buttons while there is nothing to save."""
        has_rows = bool(self.rows_to_save())
        for button in (self.copy_button, self.csv_button, self.png_button):
            button.setEnabled(has_rows)

    @guarded
    def _copy(self) -> None:
        clipboard = QApplication.clipboard()
        if clipboard is None:
            return
        clipboard.setText(table_text(self.rows_to_save()))
        self.told.emit("The table is on the clipboard.")

    @guarded
    def _ask_csv(self) -> None:
        name = f"{safe_name(self.title.lower())}.csv"
        path, _ = QFileDialog.getSaveFileName(self, "Save the table", name, "Comma-separated values (*.csv)")
        if path:
            self.save_csv(path)

    @guarded
    def save_csv(self, path: str) -> None:
        """Write the table and its record."""
        path = path if path.lower().endswith(".csv") else f"{path}.csv"
        files = write_table(path, self.rows_to_save(), self.record_to_save())
        self.told.emit(f"Saved: {', '.join(file.name for file in files)} in {files[0].parent}.")

    @guarded
    def _ask_png(self) -> None:
        name = f"{safe_name(self.title.lower())}.png"
        path, _ = QFileDialog.getSaveFileName(self, "Save the plot", name, "PNG picture (*.png)")
        if path:
            self.save_png(path)

    @guarded
    def save_png(self, path: str) -> None:
        """Write the plot."""
        if self._plot is not None:
            file = self._plot.to_png(path if path.lower().endswith(".png") else f"{path}.png")
            self.told.emit(f"Saved: {file}.")


class LiveTab(MeasureTab):
    """A tab that follows the viewer, in a thread of which only the newest answer matters."""

    is_live = True

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.live = LatestOnly()
        self._ticket = 0
        self.live.delivered.connect(self._on_delivered)

    def submit(self, work: Callable[[], Any]) -> None:
        """Do this next; its value goes to :meth:`show_result`, unless something newer was submitted meanwhile."""
        self._ticket = self.live.submit(work)

    def forget_live(self) -> None:
        """Whatever is on its way shall not be shown."""
        self.live.drop()
        self._ticket = -1

    def show_result(self, result: Any) -> str:
        """Show a result; returns a sentence."""
        raise NotImplementedError

    def show_failure(self, sentence: str) -> None:
        """Say why there is no result."""
        self.failed.emit(sentence)

    @guarded
    def _on_delivered(self, ticket: int, outcome: Outcome) -> None:
        if ticket != self._ticket:
            return
        if outcome.error is not None:
            self.show_failure(error_sentence(outcome.error))
        else:
            self.show_result(outcome.value)

    def release(self) -> None:
        """Let the thread end."""
        self.live.close()


def _button(text: str) -> QPushButton:
    button = QPushButton(text)
    button.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    return button


def unique_names(names: Sequence[str]) -> list[str]:
    """Tell layers of one name apart.

    >>> unique_names(["a", "b", "a"])
    ['a', 'b', 'a (2)']
    """
    seen: dict[str, int] = {}
    result = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        result.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return result
