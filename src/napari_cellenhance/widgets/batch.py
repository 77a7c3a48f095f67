"""The Batch dock: one recipe for a folder of images; each file is watched, and results are opened when wanted."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QApplication, QCheckBox, QLabel, QVBoxLayout, QWidget

from napari_cellenhance.core.errors import CellEnhanceError
from napari_cellenhance.widgets._batch_images import BatchImages, FolderLine
from napari_cellenhance.widgets._batch_objects import ObjectsWindow
from napari_cellenhance.widgets._batch_open import MOST_AT_ONCE, outcome_layers
from napari_cellenhance.widgets._batch_pages import CommandBox, FilesPage, ended_sentence
from napari_cellenhance.widgets._batch_recipe import RecipeForm
from napari_cellenhance.widgets._dock_panel import DockPanel
from napari_cellenhance.widgets._docking import BATCH
from napari_cellenhance.widgets._enhance_parts import column, combo, group
from napari_cellenhance.widgets._fold import Fold
from napari_cellenhance.widgets._forms import new_form, new_tabs, scrolled
from napari_cellenhance.widgets._guard import error_sentence, guarded
from napari_cellenhance.widgets._results import quoted
from napari_cellenhance.widgets._settings import DEVICES, read_settings
from napari_cellenhance.widgets._status import StatusFoot
from napari_cellenhance.widgets._worker import Job, LatestOnly, Outcome, start_job
from napari_cellenhance.workflows import batch
from napari_cellenhance.workflows.batch import BatchOutcome, BatchRequest, BatchResult, FileNews, Machine
from napari_cellenhance.workflows.batch_look import command_for
from napari_cellenhance.workflows.batch_recipe import Recipe, write_recipe
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress

if TYPE_CHECKING:
    import napari.components

__all__ = ["DOCK_TITLE", "BatchPanel"]

DOCK_TITLE = "Batch"
_TABLES = (("CSV", "csv"), ("Parquet", "parquet"))
_NEWS_EVERY_S = 0.05


class _Post(QObject):
    """Brings news of files from the thread to the window; of a file that is computed, not too often."""

    came = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self._last = 0.0

    def send(self, news: FileNews) -> None:
        """Called in the thread."""
        now = time.monotonic()
        if news.stage != "computing" or news.share == 0 or now - self._last >= _NEWS_EVERY_S:
            self._last = now
            self.came.emit(news)


class BatchPanel(DockPanel):
    """Dock panel. It holds widgets and at most one job; no pixels.

    Parameters
    ----------
    viewer : ViewerModel
    """

    def __init__(self, viewer: napari.components.ViewerModel) -> None:
        super().__init__(viewer, BATCH)
        self._job: Job | None = None
        self._request: BatchRequest | None = None  # of the run under way, or the last one
        self._result: BatchResult | None = None
        self._opened: LatestOnly = LatestOnly()
        self._opening = 0
        self.images = BatchImages()
        self.recipe = RecipeForm(viewer)
        self.target = FolderLine(
            "Results", "Folder of its own for the results, made if missing. Originals are never replaced.",
            "Folder for the results",
        )  # fmt: skip
        self.tables = combo(_TABLES, "Tables", "Kind of the tables of objects; Parquet needs pyarrow.")
        self.device = combo(
            tuple((name, name) for name in DEVICES),
            "Device",
            "auto takes the graphics card if there is one that works.",
        )
        self.overwrite = QCheckBox("Do everything anew")
        self.overwrite.setToolTip("Also files that are finished, and replace results that lie in the way.")
        self.need = QLabel()
        self.need.setWordWrap(True)
        self.command = CommandBox()
        self.files = FilesPage()
        self.foot = StatusFoot()
        self._lay_out()
        self._connect()
        self.device.setCurrentIndex(max(0, self.device.findData(read_settings().device)))
        self._on_changed()

    def _lay_out(self) -> None:
        where = QWidget()
        self._form = new_form(where)
        self._form.addRow("Tables", self.tables)
        self._form.addRow("Device", self.device)
        fold = Fold("Show the command", "The line for a terminal that does the same.", self.command)
        page = column(
            group("Images", self.images), group("Recipe", self.recipe),
            group("Results", self.target, where, self.overwrite, self.need), fold,
        )  # fmt: skip
        self.tabs = new_tabs()
        self.tabs.addTab(scrolled(page), "1 Set up")
        self.tabs.setTabToolTip(0, "Which images, what is done with them, and where the results go.")
        self.tabs.addTab(self.files, "2 Files")
        self.tabs.setTabToolTip(1, "What became of each file.")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.addWidget(self.tabs, 1)
        layout.addWidget(self.foot)
        self.foot.device.setVisible(False)
        self.foot.cancel_word = "Stop"
        self.foot.cancel.setText("Stop")
        self.foot.run.setToolTip("Do all files that are not finished; those that are done are skipped.")
        self.foot.cancel.setToolTip("Stop after the file in hand; Go on does the rest.")

    def _connect(self) -> None:
        self.images.changed.connect(self._on_changed)
        self.images.looked.connect(self._on_looked)
        self.recipe.changed.connect(self._on_changed)
        self.target.changed.connect(self._on_changed)
        self.overwrite.toggled.connect(self._on_changed)
        for box in (self.tables, self.device):
            box.currentIndexChanged.connect(self._on_changed)
        self.command.copy_wanted.connect(self._copy_command)
        self.files.open_wanted.connect(self._open_results)
        self.files.table_wanted.connect(self._open_table)
        self.foot.run_clicked.connect(self.run)
        self.foot.cancel_clicked.connect(self._on_cancel)
        self._opened.delivered.connect(self._on_opened)
        # When the whole window goes, only Qt knows; by then no method of this panel may be called.
        self.destroyed.connect(partial(_let_go, self._gone, self._opened, self.images.thread_of_looks))

    # --- what the panel says ------------------------------------------------------------

    def machine(self) -> Machine:
        """Where is computed."""
        settings = read_settings()
        return Machine(
            device=self.device.currentData(), memory_limit_mb=settings.memory_limit_mb,
            cache_folder=settings.cache_folder,
        )  # fmt: skip

    def request(self) -> BatchRequest:
        """What would run.

        Raises
        ------
        CellEnhanceError, OSError
            The recipe is missing or impossible.
        """
        return BatchRequest(
            source=self.images.source.text, target=self.target.text, recipe=self.recipe.recipe(),
            is_recursive=self.images.recursive.isChecked(), tables=self.tables.currentData(),
            overwrite=self.overwrite.isChecked(), machine=self.machine(),
        )  # fmt: skip

    def _recipe_or_none(self) -> Recipe | None:
        try:
            return self.recipe.recipe()
        except (CellEnhanceError, OSError):  # the form shows why
            return None

    def problem(self) -> str:
        """Why Run is not possible; empty when it is."""
        if self._recipe_or_none() is None:
            return "Choose a recipe."
        if self.images.found is None:
            return "Wait until the images are counted." if self.images.is_looking else "Choose images."
        return "" if self.target.text else "Choose a folder for the results."

    def _can_go_on(self) -> bool:
        was = self._result
        is_same = self._request is not None and not self.problem() and self.request() == self._request
        return is_same and was is not None and not was.is_complete

    # --- slots --------------------------------------------------------------------------

    @guarded
    def _on_changed(self) -> None:
        if self._gone.is_set():
            return
        recipe = self._recipe_or_none()
        self.images.look_again(self.target.text, recipe)
        self._form.setRowVisible(self.tables, recipe is not None and recipe.measure)
        problem, is_free = self.problem(), self._job is None
        self.foot.run.setEnabled(not problem and is_free)
        self.foot.run.setText("Go on" if is_free and self._can_go_on() else "Run")
        if is_free:
            self.foot.show_hint(problem)
        found = self.images.found
        self.need.setText("" if found is None else found.need(self.machine()))
        self.need.setVisible(bool(self.need.text()))
        self.command.show_command(command_for(self.request(), self._recipe_file()) if not problem else "")

    @guarded
    def _on_looked(self, found: Any) -> None:
        self._on_changed()
        if found is not None and self._job is None and self._result is None:
            self.files.table.show_names(found.names)

    def _recipe_file(self) -> str:
        """The file that the command names: the one that was chosen, else the copy that a batch leaves."""
        return self.recipe.file_as_it_is or str(Path(self.target.text) / "batch_recipe.json")

    @guarded
    def _copy_command(self) -> None:
        request, path = self.request(), Path(self._recipe_file())
        if not self.recipe.file_as_it_is:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_recipe(path, request.recipe)
        clipboard = QApplication.clipboard()
        if clipboard is not None:
            clipboard.setText(self.command.text)
        self.foot.show_info(f"Copied. Its recipe is in {path}.")

    @guarded
    def run(self) -> None:
        """Start, or go on; at most one run at a time."""
        if problem := self.problem():
            self.foot.show_error(problem)
            return
        request, found = self.request(), self.images.found
        post = _Post()
        post.came.connect(self._on_news)

        def work(on_progress: OnProgress, is_cancelled: IsCancelled) -> BatchResult:
            return batch.run(request, on_progress=on_progress, on_news=post.send, is_cancelled=is_cancelled)

        title = f"Batch of {Path(request.source).name}"
        job = start_job(title, work, on_progress=self.foot.show_progress, on_ended=self._on_ended)
        self._job, self._request, self._result = job, request, None
        self.files.begin(() if found is None else found.names)
        self.tabs.setCurrentWidget(self.files)
        self._on_changed()
        self.foot.set_running(is_running=True)
        self.foot.show_info("")

    @guarded
    def _on_news(self, news: FileNews) -> None:
        if not self._gone.is_set():
            self.files.take(news)

    @guarded
    def _on_cancel(self) -> None:
        super()._on_cancel()
        if self._job is not None:
            self.foot.cancel.setText("Stopping…")

    @guarded
    def _on_ended(self, outcome: Outcome) -> None:
        self._job = None
        if self._gone.is_set():
            return
        self.foot.set_running(is_running=False)
        self._result = outcome.value
        self.files.end(has_table=outcome.value is not None and outcome.value.objects is not None)
        self._on_changed()
        if outcome.error is not None:
            self.foot.show_error(error_sentence(outcome.error))
        elif outcome.value is not None:
            text = ended_sentence(outcome.value)
            (self.foot.show_error if outcome.value.stopped_by else self.foot.show_info)(text)

    # --- opening ------------------------------------------------------------------------

    @guarded
    def _open_results(self) -> None:
        wanted = self.files.finished()
        if not wanted:
            self.foot.show_error("Choose files that are done; their results are opened.")
            return
        outcomes, large_from_mb = wanted[:MOST_AT_ONCE], read_settings().large_from_mb
        self.files.open.setEnabled(False)
        self._opening = self._opened.submit(partial(_read, outcomes, large_from_mb))
        left = len(wanted) - len(outcomes)
        self.foot.show_info(f"Opening the first {MOST_AT_ONCE} of {len(wanted)}." if left > 0 else "Opening…")

    @guarded
    def _on_opened(self, ticket: int, outcome: Outcome) -> None:
        if ticket != self._opening or self._gone.is_set():
            return
        self.files.show_buttons()
        if outcome.error is not None:
            self.foot.show_error(error_sentence(outcome.error))
            return
        outcomes, layers = outcome.value
        for data, kwargs, kind in layers:
            getattr(self._viewer, f"add_{kind}")(data, **kwargs)
        self.foot.show_info(f"Opened {quoted([one.name for one in outcomes])} with the results.")

    @guarded
    def _open_table(self) -> None:
        if self._result is None or self._result.objects is None:
            return
        window = ObjectsWindow(self._result.objects, self)
        self.files.window_of_objects = window
        window.show()

    # --- showing, the end ---------------------------------------------------------------

    def show_error(self, message: str) -> None:
        """Show a sentence in the message area."""
        self.foot.show_error(message)

    def let_go(self) -> None:
        """Release the viewer and everything that listens to it."""
        self._opened.close()
        self.images.release()
        self.recipe.release()


def _read(outcomes: list[BatchOutcome], large_from_mb: float) -> Any:
    return outcomes, outcome_layers(outcomes, large_from_mb)


def _let_go(gone: Event, opened: LatestOnly, looks: LatestOnly, *_: Any) -> None:
    gone.set()
    opened.close()
    looks.close()
