"""The Models dock: which models there are, where they come from, and what each does to the image on screen."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from qtpy.QtCore import Qt, QUrl, Signal
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import (
    QFileDialog,
    QInputDialog,
    QMessageBox,
    QSplitter,
    QVBoxLayout,
    QWidget,
)

from napari_cellenhance.core.errors import ModelExistsError, ParameterError
from napari_cellenhance.widgets._docking import MODELS
from napari_cellenhance.widgets._forms import new_tabs
from napari_cellenhance.widgets._guard import guarded
from napari_cellenhance.widgets._import_models import imported_sentence
from napari_cellenhance.widgets._job_dock import JobDock
from napari_cellenhance.widgets._layer_picker import LayerPicker
from napari_cellenhance.widgets._layers import Channels, Choices, axes_of, build_request, snapshot
from napari_cellenhance.widgets._model_lists import open_with, refresh_lists
from napari_cellenhance.widgets._models_actions import ModelActions
from napari_cellenhance.widgets._models_card import ModelCardView
from napari_cellenhance.widgets._models_gallery import Gallery
from napari_cellenhance.widgets._models_table import ModelTable
from napari_cellenhance.widgets._settings import read_settings
from napari_cellenhance.widgets._status import StatusFoot
from napari_cellenhance.widgets._worker import is_busy
from napari_cellenhance.workflows import bioimageio, model_shelf, models, own_models, try_models
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress
from napari_cellenhance.zoo.bioimageio_import import AT_STAKE, TrustError
from napari_cellenhance.zoo.folders import user_models_dir

if TYPE_CHECKING:
    import napari.components

__all__ = ["DOCK_TITLE", "ModelsPanel"]

DOCK_TITLE = "Models"
Imported: TypeAlias = tuple[models.ShelfCard, ...] | TrustError | ModelExistsError
_FILES = "Models (*.zip *.tar *.tar.gz *.tgz *.tar.xz *.model *.json)"


class ModelsPanel(JobDock):
    """Dock panel. It holds widgets and at most one job; no pixels but those of the small pictures.

    Parameters
    ----------
    viewer : ViewerModel
    """

    _tried = Signal(object)

    def __init__(self, viewer: napari.components.ViewerModel) -> None:
        super().__init__(viewer, MODELS)
        self.models, self.card, self.doors = ModelTable(), ModelCardView(), ModelActions()
        self.layers = LayerPicker(viewer)
        self.gallery = Gallery(self.layers)
        self.foot = StatusFoot()
        self.foot.offers_recipe = False
        for part in (self.foot.device, self.foot.run):
            part.setVisible(False)
        self.foot.cancel.setToolTip("Stop the download, or the trial after the present model.")
        self._lay_out()
        self.models.picked.connect(self._on_picked)
        for name in ("use", "fetch", "rename", "delete", "export", "package", "folder", "add"):
            getattr(self.doors, name).triggered.connect(getattr(self, f"ask_{name}"))
        self.gallery.wanted.connect(self.try_all)
        self.gallery.chosen.connect(self.open_model)
        self.foot.cancel_clicked.connect(self._on_cancel)
        self._tried.connect(self._on_tried)
        self.reload()

    def _lay_out(self) -> None:
        split = QSplitter(Qt.Orientation.Vertical)
        split.addWidget(self.models)
        split.addWidget(self.card)
        split.setChildrenCollapsible(False)
        listed = QWidget()
        inner = QVBoxLayout(listed)
        inner.setContentsMargins(0, 4, 0, 0)
        inner.addWidget(split, 1)
        inner.addWidget(self.doors)
        self.tabs = new_tabs()
        self.tabs.addTab(listed, "All models")
        self.tabs.addTab(self.gallery, "On my image")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.addWidget(self.tabs, 1)
        layout.addWidget(self.foot)

    # --- the list -----------------------------------------------------------------------

    @guarded
    def reload(self) -> None:
        """Read again which models there are; here only."""
        rows, problems = model_shelf.list_rows(read_settings().cache_folder)
        self.models.show_rows(rows)
        if problems:
            self.foot.show_error(" ".join(problems))

    def changed(self, chosen: str = "") -> None:
        """Read again which models there are, here and in all other docks."""
        refresh_lists()
        self.reload()
        self.models.choose(chosen)

    @guarded
    def _on_picked(self, row: model_shelf.Row | None) -> None:
        self.card.show_row(row)
        self.doors.show_row(row, is_free=self._job is None)

    # --- what can be done with a model --------------------------------------------------

    @guarded
    def ask_use(self) -> None:
        """Open the dock of the chosen model."""
        if (row := self.models.row()) is not None:
            self.open_model(row.card.id)

    @guarded
    def open_model(self, model_id: str) -> None:
        """Open the dock of a model, with that model chosen."""
        card = next((row.card for row in model_shelf.list_rows()[0] if row.card.id == model_id), None)
        if card is None:
            raise ParameterError(f"there is no model {model_id!r} any more")
        title = open_with(self._viewer, card, self.layers.layer())
        self.foot.show_info(f"“{card.title}” is chosen in the dock “{title}”.")

    @guarded
    def ask_fetch(self) -> None:
        """Download the chosen model."""
        row = self.models.row()
        if row is None:
            return
        model_id = row.card.id

        def work(on_progress: OnProgress, is_cancelled: IsCancelled) -> bool:
            return models.fetch(model_id, on_progress=on_progress, is_cancelled=is_cancelled) is not None

        self._start(f"Fetch {row.card.title}", work, partial(self._show_fetched, row))

    def _show_fetched(self, row: model_shelf.Row, is_here: bool) -> None:
        if not is_here:
            self.foot.show_info(
                f"Cancelled. Download “{row.card.title}” again to go on where it stopped; what came so far is kept."
            )
            return
        self.changed(row.card.id)
        self.foot.show_info(f"“{row.card.title}” is here and was verified.")

    @guarded
    def ask_rename(self) -> None:
        """Ask for another title, and give it."""
        row = self.models.row()
        if row is None:
            return
        title, is_wanted = QInputDialog.getText(self, "Rename the model", "New name:", text=row.card.title)
        if is_wanted:
            changed = own_models.rename(row.card.id, title)
            self.changed(row.card.id)
            self.foot.show_info(f"“{row.card.title}” is now “{changed.title}”.")

    @guarded
    def ask_delete(self) -> None:
        """Ask whether to delete it, and do so."""
        row = self.models.row()
        if row is None:
            return
        if is_busy("training"):
            self.foot.show_error("A training is running, and may need this model. Delete it when it has ended.")
            return
        question = f"Delete “{row.card.title}”, with all that its training left? This cannot be undone."
        if QMessageBox.question(self, "Delete the model", question) == QMessageBox.StandardButton.Yes:
            own_models.delete(row.card.id)
            self.changed()
            self.foot.show_info(f"“{row.card.title}” was deleted.")

    @guarded
    def ask_export(self) -> None:
        """Ask for a folder, and copy weights and card there."""
        row = self.models.row()
        folder = self._ask_folder(row)
        if row is not None and folder:
            weights, card = own_models.export(row.card.id, folder)
            self.foot.show_info(f"Exported: {weights.name} and {card.name} are in {weights.parent}.")

    @guarded
    def ask_package(self) -> None:
        """Ask for a folder, and write a package of the BioImage Model Zoo there."""
        row = self.models.row()
        folder = self._ask_folder(row)
        if row is None or not folder:
            return
        model_id = row.card.id

        def work(_on_progress: OnProgress, _is_cancelled: IsCancelled) -> Any:
            return bioimageio.export_bioimageio(model_id, folder)

        self._start_whole(
            f"Export {row.card.title}", work,
            lambda path: self.foot.show_info(f"Exported: {path}. Other programs of the BioImage Model Zoo can run it."),
        )  # fmt: skip

    def _ask_folder(self, row: model_shelf.Row | None) -> str:
        title = "" if row is None else row.card.title
        return "" if row is None else str(QFileDialog.getExistingDirectory(self, f"Folder for the files of “{title}”"))

    @guarded
    def ask_folder(self) -> None:
        """Show the folder of the user's models in the file manager."""
        folder = user_models_dir()
        folder.mkdir(parents=True, exist_ok=True)
        QDesktopServices.openUrl(QUrl.fromLocalFile(str(folder)))
        self.foot.show_info(f"Your models are in {folder}.")

    @guarded
    def ask_add(self) -> None:
        """Ask for a file with models, and import it."""
        path, _ = QFileDialog.getOpenFileName(self, "Import models", "", _FILES)
        if path:
            self.import_file(path)

    @guarded
    def import_file(self, path: str) -> None:
        """Import what a file holds, in a thread."""
        self._import(path)

    def _import(self, path: str, *, model_id: str | None = None, is_trusted: bool = False) -> None:
        def work(_on_progress: OnProgress, _is_cancelled: IsCancelled) -> Imported:
            try:
                return models.import_file(path, model_id=model_id, trust_torchscript=is_trusted)
            except (TrustError, ModelExistsError) as why:
                return why  # no fault, but a question

        self._start_whole("Import models", work, partial(self._show_imported, path, model_id, is_trusted))

    def _show_imported(self, path: str, model_id: str | None, is_trusted: bool, came: Imported) -> None:
        if isinstance(came, tuple):
            self.changed(came[0].info.id)
            self.foot.show_info(imported_sentence(came))
        elif isinstance(came, ModelExistsError):
            wanted, is_wanted = QInputDialog.getText(
                self, "Another id for the model",
                f"There is a model “{came.model_id}” already, which stays. Id of the new one, as commands name it:",
                text=own_models.free_id(came.model_id),
            )  # fmt: skip
            if is_wanted and wanted.strip():
                self._import(path, model_id=wanted.strip(), is_trusted=is_trusted)
            else:
                self.foot.show_info("Nothing was imported.")
        else:  # a program, which nobody has trusted yet
            answer = QMessageBox.warning(
                self, "This model is a program", f"{AT_STAKE}\n\nImport it?",
                QMessageBox.StandardButton.Yes | QMessageBox.StandardButton.No, QMessageBox.StandardButton.No,
            )  # fmt: skip
            if answer == QMessageBox.StandardButton.Yes:
                self._import(path, model_id=model_id, is_trusted=True)
            else:
                self.foot.show_info("Nothing was imported.")

    # --- on my image --------------------------------------------------------------------

    @guarded
    def try_all(self) -> None:
        """Show what every filter that is here makes of the middle of the view."""
        layer = self.layers.layer()
        if layer is None:
            self.foot.show_error("Open an image first.")
            return
        view, settings = snapshot(layer, self._viewer.dims), read_settings()
        axes, _ = axes_of(view)
        filters = try_models.suitable(settings.cache_folder)
        channels: Channels = "grey" if "S" in axes else (0,) if "C" in axes else "all"
        choices = Choices(
            axes=axes, filter_id=filters[0].id, strength=1.0, channels=channels, scope="view", device=settings.device
        )

        def work(on_progress: OnProgress, is_cancelled: IsCancelled) -> int:
            return try_models.try_view(
                build_request(view, choices, settings), filters, self._tried.emit, on_progress=on_progress,
                is_cancelled=is_cancelled,
            )  # fmt: skip

        self.gallery.clear()
        self._start(f"Models on {view.name}", work, partial(self._show_tried, len(filters)))

    @guarded
    def _on_tried(self, trial: try_models.Trial) -> None:
        if not self._gone.is_set():
            self.gallery.add(trial)

    def _show_tried(self, n: int, n_done: int) -> None:
        whole = f"{n} models. Click a picture to use its model."
        self.foot.show_info(whole if n_done == n else f"Cancelled after {n_done} of {n} models.")

    # --- jobs ---------------------------------------------------------------------------

    def _start_whole(
        self, title: str, work: Callable[[OnProgress, IsCancelled], Any], show: Callable[[Any], None]
    ) -> None:
        """As ``_start``, of something short that is done as a whole or not at all."""
        self._start(title, work, show)
        self.foot.cancel.setEnabled(False)

    def _on_busy(self) -> None:
        self._show_state()

    def _show_state(self) -> None:
        self.doors.show_row(self.models.row(), is_free=self._job is None)
        self.gallery.button.setEnabled(self._job is None)

    def show_error(self, message: str) -> None:
        """Show a sentence in the message area."""
        self.foot.show_error(message)

    def let_go(self) -> None:
        """Release the viewer."""
        self.layers.release()
