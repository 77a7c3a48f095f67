"""The dock “Crop library”: find objects in images, look at them by class, move them, and keep them as a folder."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QFileDialog, QMessageBox, QPushButton, QVBoxLayout, QWidget

from napari_cellenhance.core.crop_library import CropLibrary, FoundObject
from napari_cellenhance.core.focus import FocusThresholds
from napari_cellenhance.io.safe_write import safe_name
from napari_cellenhance.widgets._crop_files import changed_outside, open_folder, save_folder, save_sheet
from napari_cellenhance.widgets._crop_focus import FocusSort
from napari_cellenhance.widgets._crop_form import Asked, CropForm
from napari_cellenhance.widgets._crop_overlay import ChosenBoxes, Outlines
from napari_cellenhance.widgets._crop_page import LibraryPage
from napari_cellenhance.widgets._crop_shelf import CropShelf, Opened
from napari_cellenhance.widgets._docking import CROPS, bare
from napari_cellenhance.widgets._forms import new_tabs, scrolled
from napari_cellenhance.widgets._guard import guarded
from napari_cellenhance.widgets._image_form import suggest_dark
from napari_cellenhance.widgets._job_dock import JobDock
from napari_cellenhance.widgets._status import StatusFoot
from napari_cellenhance.widgets._worker import LatestOnly, Outcome
from napari_cellenhance.workflows import crop_finding
from napari_cellenhance.workflows.crop_finding import FoundCrops, counted, found_sentence
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress

if TYPE_CHECKING:
    import napari.components

__all__ = ["DOCK_TITLE", "CropPanel"]

DOCK_TITLE = "Crop library"
_FIND, _LIBRARY = range(2)
_SORT_AFTER_MS = 40
_FIND_AFTER_MS = 250
_LIVE_PX = 1 << 22
"""Up to so many pixels objects are found again by themselves when a setting changes."""


class CropPanel(JobDock):
    """Dock panel. It holds widgets, the library, what was found last, and at most one job.

    Parameters
    ----------
    viewer : ViewerModel
    """

    def __init__(self, viewer: napari.components.ViewerModel) -> None:
        super().__init__(viewer, CROPS)
        self.found: FoundCrops | None = None
        self._asked: Asked | None = None
        self._axes: dict[str, str] = {}
        self._ticket = self._look_ticket = 0
        self.shelf = CropShelf(self)
        self.form = CropForm(viewer)
        self.sorting = FocusSort()
        self.page = LibraryPage(self.shelf)
        self.outlines, self.boxes = Outlines(viewer), ChosenBoxes(viewer)
        self.tabs, self.foot = new_tabs(), StatusFoot()
        self.add = QPushButton("Add to the library")
        self.add.setToolTip("Put what was found into the library; then choose the next image.")
        self._live, self._look = LatestOnly(), LatestOnly()
        self._sort_timer, self._find_timer = _timer(self, _SORT_AFTER_MS), _timer(self, _FIND_AFTER_MS)
        self._lay_out()
        self._connect()
        self._on_image()
        self._on_tab()
        if self.shelf.take_back(bare(viewer)):
            self.foot.show_info("The library that was not saved when this dock was closed is here again.")

    def _lay_out(self) -> None:
        find = QWidget()
        column = QVBoxLayout(find)
        column.setContentsMargins(6, 6, 6, 6)
        for part in (self.form, self.sorting):
            column.addWidget(part)
        column.addStretch(1)
        self.tabs.addTab(scrolled(find), "1 Find")
        self.tabs.addTab(self.page, "2 Library")
        self.tabs.setTabToolTip(_FIND, "Find objects in an image, and add them.")
        self.tabs.setTabToolTip(_LIBRARY, "Look at the crops of each class, move them, save them.")
        self.foot.run.setText("Find objects")
        self.foot.run.setToolTip("Cut out the objects of this image; they are outlined in the colour of their class.")
        self.foot.cancel.setToolTip("Stop after the plane that is being worked on.")
        self.foot.device.setVisible(False)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.addWidget(self.tabs, 1)
        layout.addWidget(self.add)
        layout.addWidget(self.foot)

    def _connect(self) -> None:
        self.form.changed.connect(self._on_changed)
        self.form.image_changed.connect(self._on_image)
        self.tabs.currentChanged.connect(self._on_tab)
        self.foot.run_clicked.connect(self.run)
        self.foot.cancel_clicked.connect(self._on_cancel)
        self.add.clicked.connect(self.add_found)
        self.sorting.moved.connect(self._sort_soon)
        self.shelf.changed.connect(self._on_shelf)
        self.page.looked_at.connect(self._on_looked_at)
        self.page.told.connect(self.foot.show_info)
        self.page.open_wanted.connect(self._ask_open)
        self.page.save_wanted.connect(self.save)
        self.page.save_as_wanted.connect(self._ask_save)
        self.page.sheet_wanted.connect(self._ask_sheet)
        self.page.clear_wanted.connect(self._on_clear)
        self._sort_timer.timeout.connect(self._sort)
        self._find_timer.timeout.connect(self._find_live)
        self._live.delivered.connect(self._on_live)
        self._look.delivered.connect(self._on_look)
        self.destroyed.connect(partial(_let_go, self._gone, self._live, self._look))

    # --- finding ------------------------------------------------------------------------

    @guarded
    def _on_image(self) -> None:
        self._forget()
        view = self.form.view()
        if view is not None and not self.form.about.problem():
            self._look_ticket = self._look.submit(partial(suggest_dark, view, self.form.about.axes_text))

    @guarded
    def _on_look(self, ticket: int, outcome: Outcome) -> None:
        if ticket == self._look_ticket and outcome.error is None and not self._gone.is_set():
            self.form.show_dark(outcome.value)

    @guarded
    def _on_changed(self) -> None:
        if self._gone.is_set():
            return
        self._show_state()
        if self._asked is not None:
            self._find_timer.start()

    @guarded
    def _find_live(self) -> None:
        """Find again by the new settings, if that is a matter of a moment."""
        if self._gone.is_set() or self._job is not None or self._asked is None or self.form.problem():
            return
        asked = self.form.asked(self._by_hand())
        if asked.n_pixels > _LIVE_PX:
            self.foot.show_hint("The settings have changed: press “Find objects” again.")
            return
        self._asked = asked
        self._ticket = self._live.submit(partial(crop_finding.find, asked.request))

    @guarded
    def _on_live(self, ticket: int, outcome: Outcome) -> None:
        if ticket == self._ticket and not self._gone.is_set() and self._asked is not None:
            if outcome.error is not None:
                self._show_none(self._asked, outcome.error)
            elif outcome.value is not None:
                self._show_new(self._asked, outcome.value)

    @guarded
    def run(self) -> None:
        """Find objects in the chosen image."""
        if problem := self.form.problem():
            self.foot.show_error(problem)
            return
        asked = self.form.asked(self._by_hand())
        self._asked = asked

        def work(on_progress: OnProgress, is_cancelled: IsCancelled) -> FoundCrops:
            return crop_finding.find(asked.request, on_progress=on_progress, is_cancelled=is_cancelled)

        self._start(
            f"Find objects in {asked.view.name}", work, partial(self._show_new, asked), partial(self._show_none, asked)
        )

    def _by_hand(self) -> FocusThresholds | None:
        return self.sorting.thresholds if self.sorting.is_by_hand else None

    def _show_new(self, asked: Asked, found: FoundCrops) -> None:
        self._show_found(asked, found)
        self.foot.show_info(found_sentence(found, asked.view.name))

    def _show_none(self, asked: Asked, error: BaseException) -> None:
        self._show_found(asked, None)
        self._on_failed(error)

    def _show_found(self, asked: Asked, found: FoundCrops | None) -> None:
        self.found = found
        if found is None:
            self.outlines.remove()
            self.sorting.clear()
        else:
            self.sorting.show_scores(found.result.score_curve, found.result.thresholds)
            self.outlines.show(found, asked.view, asked.choices)
        self._show_state()

    @guarded
    def _sort_soon(self) -> None:
        # Not put off by each further move: what is dragged is followed.
        if not self._sort_timer.isActive():
            self._sort_timer.start()

    @guarded
    def _sort(self) -> None:
        thresholds = self.sorting.thresholds
        if self._gone.is_set() or self.found is None or thresholds is None or self._asked is None:
            return
        self.found = crop_finding.resorted(self.found, thresholds)
        self.outlines.recolour(self.found.collection)
        self.foot.show_info(found_sentence(self.found, self._asked.view.name))

    @guarded
    def add_found(self) -> None:
        """Put what was found into the library."""
        if self.found is None or self._asked is None:
            return
        self._sort()
        found, name = self.found, self._asked.view.name
        n_again = self.shelf.add(found.collection, found.result.record)
        self._axes[name] = self._asked.choices.axes
        self._forget()
        again = ""
        if n_again:
            again = f" {n_again} of them were in the library before; they have the class they were given now."
        self.foot.show_info(
            f"Added from “{name}”: {counted(found.collection)}.{again} Choose the next image, or look at them under "
            "“2 Library”."
        )

    def _forget(self) -> None:
        self._find_timer.stop()
        self._live.drop()
        self._ticket = -1
        self.found, self._asked = None, None
        self.outlines.remove()
        self.sorting.clear()
        self._show_state()

    # --- the library --------------------------------------------------------------------

    @guarded
    def _on_shelf(self) -> None:
        n = len(self.shelf.collection.objects)
        self.tabs.setTabText(_LIBRARY, f"2 Library ({n}{'' if self.shelf.is_saved else ' *'})" if n else "2 Library")
        self._show_state()

    @guarded
    def _on_looked_at(self, objects: list[FoundObject]) -> None:
        if self._gone.is_set():
            return
        if not objects:
            self.boxes.remove()
        elif not self.boxes.show(objects, self._axes) and len(objects) == 1:
            self.foot.show_info(f"“{objects[0].crop.source}” is not open, so its place cannot be shown.")

    @guarded
    def _ask_open(self) -> None:
        if self._may_forget("open another one"):
            folder = QFileDialog.getExistingDirectory(self, "Open a folder of crops")
            if folder:
                self.open_library(folder)

    @guarded
    def open_library(self, folder: str) -> None:
        """Read a library in the worker."""
        self._start(f"Open {folder}", partial(open_folder, folder), self._on_opened)

    def _on_opened(self, opened: Opened) -> None:
        self.shelf.show_opened(opened)
        self.tabs.setCurrentIndex(_LIBRARY)
        notes = " ".join(opened[1].notes)
        self.foot.show_info(f"Opened: {counted(opened[1])}. {notes}".strip())

    @guarded
    def save(self) -> None:
        """Write the library into its folder, or ask for one."""
        folder = self.shelf.folder
        if folder is None:
            self._ask_save()
        elif changed_outside(folder, self.shelf.stamp):
            self.foot.show_error(
                f"{folder} was changed by another program since it was opened here. So that nothing is lost: “Save "
                "as…” to another folder, or open this one again."
            )
        else:
            self._save_to(folder, overwrite=True)

    @guarded
    def _ask_save(self) -> None:
        start = self.shelf.folder.with_name(f"{self.shelf.folder.name} 2") if self.shelf.folder else Path("crops")
        options = QFileDialog.Option.DontConfirmOverwrite  # a library that is there is never replaced this way
        path, _ = QFileDialog.getSaveFileName(self, "Save the library as a new folder", str(start), options=options)
        if path:
            self.save_library(path)

    @guarded
    def save_library(self, folder: str) -> None:
        """Write the library as a new folder."""
        self._save_to(Path(folder), overwrite=False)

    def _save_to(self, folder: Path, *, overwrite: bool) -> None:
        library = self.shelf.collection
        work = partial(save_folder, folder, library, self.shelf.record(), overwrite=overwrite)
        self._start(f"Save {folder.name}", work, partial(self._on_saved, folder, library))

    def _on_saved(self, folder: Path, library: CropLibrary, stamp: Any) -> None:
        self.shelf.show_saved(folder, library, stamp)
        self.foot.show_info(f"Saved in {folder}: {counted(library)}.")

    @guarded
    def _ask_sheet(self) -> None:
        name = safe_name(self.shelf.folder.name if self.shelf.folder else "crops")
        path, _ = QFileDialog.getSaveFileName(self, "Save the contact sheet", f"{name}.png", "PNG picture (*.png)")
        if path:
            self.save_sheet(path)

    @guarded
    def save_sheet(self, path: str) -> None:
        """Draw the contact sheet."""
        target = Path(path if path.lower().endswith(".png") else f"{path}.png")
        self._start("Draw the contact sheet", partial(save_sheet, target, self.shelf.collection), self._on_sheet)

    def _on_sheet(self, saved: Any) -> None:
        self.foot.show_info(f"Saved: {saved}.")

    @guarded
    def _on_clear(self) -> None:
        if self._may_forget("begin an empty one"):
            self.shelf.clear()
            self.foot.show_info("")

    def _may_forget(self, what: str) -> bool:
        """Ask before changes that are not saved are lost."""
        if self.shelf.is_saved:
            return True
        question = (
            f"The library has changes that are not saved ({counted(self.shelf.collection)}). Lose them and {what}?"
        )
        buttons = QMessageBox.StandardButton.Discard | QMessageBox.StandardButton.Cancel
        answer = QMessageBox.question(self, DOCK_TITLE, question, buttons, QMessageBox.StandardButton.Cancel)
        return bool(answer == QMessageBox.StandardButton.Discard)

    # --- jobs ---------------------------------------------------------------------------

    def _start(self, title: str, work: Any, show: Any, fail: Any = None) -> None:
        if self._job is not None:
            self.foot.show_error("Something is under way in this dock. Wait for it, or press Cancel.")
            return
        super()._start(title, work, show, fail)

    def _on_busy(self) -> None:
        self._show_state()

    # --- showing ------------------------------------------------------------------------

    @guarded
    def _on_tab(self) -> None:
        is_find = self.tabs.currentIndex() == _FIND
        self.foot.run.setVisible(is_find)
        self.add.setVisible(is_find)
        if is_find:
            self.boxes.remove()
        self._show_state()

    def _show_state(self) -> None:
        if self._gone.is_set():
            return
        problem = self.form.problem()
        is_idle, is_find = self._job is None, self.tabs.currentIndex() == _FIND
        self.foot.cancel.setVisible(is_find or not is_idle)
        self.foot.run.setEnabled(is_idle and not problem)
        self.add.setEnabled(is_idle and self.found is not None and bool(self.found.collection.objects))
        self.sorting.setVisible(self.form.is_sorted and self.sorting.thresholds is not None)
        self.page.open.setEnabled(is_idle)
        if is_idle:
            self.foot.show_hint(problem if is_find else "")

    def show_error(self, message: str) -> None:
        """Show a sentence in the message area."""
        self.foot.show_error(message)

    # --- the end ------------------------------------------------------------------------

    def let_go(self) -> None:
        """Release the viewer and everything that listens to it."""
        for timer in (self._sort_timer, self._find_timer):
            timer.stop()
        self.shelf.leave_behind(bare(self._viewer))
        self._live.close()
        self._look.close()
        self.form.release()
        self.outlines.remove()
        self.boxes.remove()


def _timer(owner: QWidget, interval_ms: int) -> QTimer:
    timer = QTimer(owner)
    timer.setSingleShot(True)
    timer.setInterval(interval_ms)
    return timer


def _let_go(gone: Any, *threads: LatestOnly) -> None:
    gone.set()
    for thread in threads:
        if isinstance(thread, LatestOnly):
            thread.close()
