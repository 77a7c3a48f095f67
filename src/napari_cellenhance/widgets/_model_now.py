"""The part of a dock that uses a model at once on the chosen images, with a live preview."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from threading import Event
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.widgets._denoise_results import DenoisePreview
from napari_cellenhance.widgets._forms import describe, new_form
from napari_cellenhance.widgets._guard import error_sentence, guarded
from napari_cellenhance.widgets._layers import Choices
from napari_cellenhance.widgets._learning_run import Chosen
from napari_cellenhance.widgets._preview_badge import PreviewBadge
from napari_cellenhance.widgets._settings import PluginSettings, read_settings
from napari_cellenhance.widgets._status import StatusFoot
from napari_cellenhance.widgets._teach_models import ModelMenu
from napari_cellenhance.widgets._worker import Job, Outcome, start_job
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, Progress
from napari_cellenhance.zoo.cards import ModelCard

__all__ = ["ModelNow"]

Work = Callable[[OnProgress, IsCancelled], list[Any]]


class ModelNow(QWidget):
    """A list of models, and a button. Holds at most one job.

    Parameters
    ----------
    viewer : ViewerModel
    forms : callable
        Gives the forms of the chosen images.
    current : callable
        Gives the form of the image to preview, or None.
    images_problem : callable
        Why the images cannot be read; empty if they can.
    """

    models_changed = Signal()

    verb = "Use"
    """What the button does: "Denoise"."""
    no_model = ""
    """What to do where there is none."""
    first_choice = ""
    """Id of the model to begin with."""

    def __init__(
        self,
        viewer: Any,
        forms: Callable[[], list[Any]],
        current: Callable[[], Any],
        images_problem: Callable[[], str],
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self.viewer = viewer
        self.forms, self._current, self._images_problem = forms, current, images_problem
        self._job: Job | None = None
        self._gone = Event()
        self._cards: dict[str, ModelCard] = {}
        self.model = QComboBox()
        describe(self.model, "Model", "A model of the plugin, or one that you trained.")
        self.menu = ModelMenu(self)
        self.about = QLabel()
        self.about.setWordWrap(True)
        self.badge = PreviewBadge()
        self.preview = DenoisePreview(viewer, self._preview_source)
        self.foot = StatusFoot()
        self.foot.device.setVisible(False)
        self.foot.run.setText(f"{self.verb} now")
        self.foot.run.setToolTip("The whole of each checked image, all planes; the results are new layers.")
        self.foot.cancel.setToolTip("End after the present tile. Images that are finished are kept.")
        form, row = new_form(), QHBoxLayout()
        row.addWidget(self.model, 1)
        row.addWidget(self.menu)
        form.addRow("Model", row)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(form)
        layout.addWidget(self.about)
        layout.addWidget(self.badge)
        for part in self.more_parts():
            layout.addWidget(part)
        layout.addWidget(self.foot)
        layout.addStretch(1)
        self.model.currentIndexChanged.connect(self._on_model)
        self.menu.changed.connect(self._on_models_changed)
        self.menu.told.connect(self.foot.show_info)
        self.menu.failed.connect(self.foot.show_error)
        self.badge.toggled.connect(self._on_preview)
        self.preview.status_changed.connect(self.badge.show_status)
        self.foot.run_clicked.connect(self.run)
        self.foot.cancel_clicked.connect(self._on_cancel)
        self.refill()

    # --- for the docks ------------------------------------------------------------------

    def more_parts(self) -> Sequence[QWidget]:
        """Make what stands above the button."""
        return ()

    def list_cards(self) -> Sequence[ModelCard]:
        """Models to choose from."""
        raise NotImplementedError

    def misfit(self, card: ModelCard, form: Any) -> str:
        """Why a model cannot be used on an image; empty if it can."""
        raise NotImplementedError

    def work(self, card: ModelCard, chosen: Chosen) -> Work:
        """The call for the worker."""
        raise NotImplementedError

    def add_results(self, chosen: Chosen, found: list[Any]) -> str:
        """Add layers for what was found; returns a sentence about it."""
        raise NotImplementedError

    def about_text(self, card: ModelCard) -> str:
        """What is said about a model."""
        return card.summary

    def is_previewed(self, card: ModelCard) -> bool:
        """Whether the live preview can show a model."""
        return card.axes == "YX"

    # --- what it says -------------------------------------------------------------------

    def card(self) -> ModelCard | None:
        """The chosen model."""
        return self._cards.get(self.model.currentData() or "")

    def problem(self) -> str:
        """Why nothing can be done; empty if it can."""
        if problem := self._images_problem():
            return problem
        card = self.card()
        if card is None:
            return self.no_model
        return next((problem for form in self.forms() if (problem := self.misfit(card, form))), "")

    def _preview_source(self) -> tuple[Any, Choices, PluginSettings] | None:
        form, card = self._current(), self.card()
        if form is None or card is None:
            return None
        if not self.is_previewed(card):
            raise ParameterError(
                f"The live preview shows models of single planes; press “{self.verb} now” for this one."
            )
        settings = read_settings()
        choices = Choices(
            axes=form.image.axes_text, filter_id=card.id, strength=1.0, channels=form.channels(), statistics="stack",
            device=settings.device,
        )  # fmt: skip
        return form.layer, choices, settings

    # --- following ----------------------------------------------------------------------

    @guarded
    def refill(self, chosen: str = "") -> None:
        """Read the list of models again; ``chosen``, or the one that was, is chosen."""
        wanted = chosen or self.model.currentData() or self.first_choice
        self._cards = {card.id: card for card in self.list_cards()}
        was_blocked = self.model.blockSignals(True)
        self.model.clear()
        for card in self._cards.values():
            self.model.addItem(card.title, card.id)
        self.model.setCurrentIndex(max(0, self.model.findData(wanted)) if self._cards else -1)
        self.model.blockSignals(was_blocked)
        self._on_model()

    @guarded
    def _on_models_changed(self) -> None:
        self.refill()
        self.models_changed.emit()

    @guarded
    def _on_model(self) -> None:
        card = self.card()
        self.menu.set_card(card)
        self.about.setText("" if card is None else self.about_text(card))
        self.about.setVisible(card is not None)
        self.show_state()

    def show_state(self) -> None:
        """Show again what can be pressed."""
        problem = self.problem()
        self.foot.run.setEnabled(self._job is None and not problem)
        self.badge.switch.setEnabled(self.card() is not None)
        if self._job is None:
            self.foot.show_hint(problem)
        self.preview.refresh()

    @guarded
    def _on_preview(self, is_on: bool) -> None:
        self.preview.set_on(is_on)

    # --- a run --------------------------------------------------------------------------

    def show_error(self, message: str) -> None:
        """Show a sentence in the message area."""
        self.foot.show_error(message)

    @guarded
    def run(self) -> None:
        """Use the model on the chosen images in the worker."""
        card = self.card()
        if (problem := self.problem()) or card is None:
            self.foot.show_error(problem)
            return
        chosen = Chosen(self.forms())
        call = self.work(card, chosen)

        def work(on_progress: OnProgress, is_cancelled: IsCancelled) -> list[Any]:
            return call(on_progress, lambda: is_cancelled() or self._gone.is_set())

        title = f"{self.verb} {', '.join(view.name for view in chosen.views)}"
        self._job = start_job(title, work, on_progress=self._on_progress, on_ended=partial(self._on_ended, chosen))
        self.preview.hold(True)
        self.foot.set_running(is_running=True)
        self.foot.show_info("")
        self.show_state()

    @guarded
    def _on_progress(self, progress: Progress) -> None:
        if not self._gone.is_set():
            self.foot.show_progress(progress)

    @guarded
    def _on_cancel(self) -> None:
        if self._job is not None:
            self._job.cancel()
            self.foot.set_cancelling()

    @guarded
    def _on_ended(self, chosen: Chosen, outcome: Outcome) -> None:
        self._job = None
        if self._gone.is_set():
            return
        self.foot.set_running(is_running=False)
        self.preview.hold(False)
        self.show_state()
        if outcome.error is not None:
            self.foot.show_error(error_sentence(outcome.error))
        elif outcome.value is not None:
            self.badge.switch.setChecked(False)  # it would lie over the result
            self.foot.show_info(self.add_results(chosen, outcome.value))

    def close_down(self) -> None:
        """End the job and the preview, and let go of the viewer."""
        self._gone.set()
        if self._job is not None:
            self._job.cancel()
        self.preview.close()

    def abandon(self) -> None:
        """End the threads without touching the viewer or anything of Qt, which may be gone already."""
        self._gone.set()
        self.preview.abandon()
