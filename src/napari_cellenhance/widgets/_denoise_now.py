"""Denoise the chosen images with a model that there is, at once; with a live preview."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from threading import Event
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QComboBox, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.widgets._denoise_layer_form import DenoiseLayerForm
from napari_cellenhance.widgets._denoise_results import DenoisePreview, denoised_layer, done_sentence
from napari_cellenhance.widgets._fold import Fold
from napari_cellenhance.widgets._forms import describe, new_form
from napari_cellenhance.widgets._guard import error_sentence, guarded
from napari_cellenhance.widgets._layers import Choices, LayerView, pixel_sizes
from napari_cellenhance.widgets._preview_badge import PreviewBadge
from napari_cellenhance.widgets._settings import PluginSettings, read_settings
from napari_cellenhance.widgets._status import StatusFoot
from napari_cellenhance.widgets._teach_models import ModelMenu
from napari_cellenhance.widgets._worker import Job, Outcome, start_job
from napari_cellenhance.workflows import denoise_layers as workflow
from napari_cellenhance.workflows.denoise import DEFAULT_DENOISER, DenoiseRequest, list_denoisers
from napari_cellenhance.workflows.denoise_layers import DenoisedLayer
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, Progress
from napari_cellenhance.zoo.cards import ModelCard

__all__ = ["Chosen", "DenoiseNow", "request_for"]

_NO_MODEL = "There is no denoiser yet: train one under “2 Train”; it learns from the noisy image alone."


class Chosen:
    """Images that are chosen, frozen, as a run needs them.

    Parameters
    ----------
    forms : sequence of DenoiseLayerForm
    """

    def __init__(self, forms: Sequence[DenoiseLayerForm]) -> None:
        self.layers = [form.layer for form in forms]
        self.views = [form.view() for form in forms]
        self.axes = [form.image.axes_text for form in forms]
        self.channels = [form.channels() for form in forms]

    def requests(self, model_id: str, settings: PluginSettings, symmetries: Any = 1) -> list[DenoiseRequest]:
        """What to ask of the workflow, for each image."""
        return [
            request_for(view, axes, channels, model_id, settings, symmetries)
            for view, axes, channels in zip(self.views, self.axes, self.channels, strict=True)
        ]

    def add_to(self, viewer: Any, found: Sequence[DenoisedLayer]) -> tuple[list[str], list[str]]:
        """Add the results of images that are still there; returns the new names, and the images that went."""
        added, gone = [], []
        active = viewer.layers.selection.active
        for one, layer, view, axes, channels in zip(
            found, self.layers, self.views, self.axes, self.channels, strict=False
        ):
            if layer not in viewer.layers:
                gone.append(view.name)
                continue
            data, kwargs, _ = denoised_layer(one, view, axes, channels)
            added.append(str(viewer.add_image(data, **kwargs).name))
        if active in viewer.layers:
            viewer.layers.selection.active = active
        return added, gone


def request_for(
    view: LayerView, axes: str, channels: Any, model_id: str, settings: PluginSettings, symmetries: Any = 1
) -> DenoiseRequest:
    """Turn a layer into a request."""
    return DenoiseRequest(
        image=view.levels[0],
        axes=axes,
        model_id=model_id,
        channels=channels,
        symmetries=symmetries,
        device=settings.device,
        source_name=view.name,
        pixel_size_um=pixel_sizes([float(step) for step in view.geometry.scale], view.geometry.units, axes),
        earlier=view.made,
        cache_folder=settings.cache_folder,
    )


class DenoiseNow(QWidget):
    """The section that uses the models. Holds at most one job.

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

    def __init__(
        self,
        viewer: Any,
        forms: Callable[[], list[DenoiseLayerForm]],
        current: Callable[[], DenoiseLayerForm | None],
        images_problem: Callable[[], str],
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._forms, self._current, self._images_problem = forms, current, images_problem
        self._job: Job | None = None
        self._gone = Event()
        self._cards: dict[str, ModelCard] = {}
        self.model = QComboBox()
        describe(self.model, "Model", "A denoiser: the one of the plugin, or one that you trained.")
        self.menu = ModelMenu(self)
        self.about = QLabel()
        self.about.setWordWrap(True)
        self.badge = PreviewBadge()
        self.badge.switch.setToolTip("Show what is on screen denoised, as a layer that follows camera and sliders.")
        self.symmetries = QCheckBox("Average over eight turned versions")
        self.symmetries.setToolTip("A little better, and eight times slower.")
        self.preview = DenoisePreview(viewer, self._preview_source)
        self.foot = StatusFoot()
        self.foot.device.setVisible(False)
        self.foot.run.setText("Denoise now")
        self.foot.run.setToolTip("The whole of each checked image, all planes; the results are new layers.")
        self.foot.cancel.setToolTip("End after the present tile. Images that are finished are kept.")
        self._lay_out()
        self._connect()
        self.refill()

    def _lay_out(self) -> None:
        form, row = new_form(), QHBoxLayout()
        row.addWidget(self.model, 1)
        row.addWidget(self.menu)
        form.addRow("Model", row)
        finer = QWidget()
        column = QVBoxLayout(finer)
        column.setContentsMargins(12, 0, 0, 0)
        column.addWidget(self.symmetries)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(form)
        layout.addWidget(self.about)
        layout.addWidget(self.badge)
        layout.addWidget(Fold("More settings", "Finer settings.", finer))
        layout.addWidget(self.foot)
        layout.addStretch(1)

    def _connect(self) -> None:
        self.model.currentIndexChanged.connect(self._on_model)
        self.menu.changed.connect(self._on_models_changed)
        self.menu.told.connect(self.foot.show_info)
        self.menu.failed.connect(self.foot.show_error)
        self.badge.toggled.connect(self._on_preview)
        self.preview.status_changed.connect(self.badge.show_status)
        self.foot.run_clicked.connect(self.run)
        self.foot.cancel_clicked.connect(self._on_cancel)

    # --- what it says -------------------------------------------------------------------

    def card(self) -> ModelCard | None:
        """The chosen model."""
        return self._cards.get(self.model.currentData() or "")

    def problem(self) -> str:
        """Why nothing can be denoised; empty if it can."""
        if problem := self._images_problem():
            return problem
        card = self.card()
        if card is None:
            return _NO_MODEL
        problems = (
            workflow.misfit(card, str(form.layer.name), form.image.axes_text, form.view().shape, form.channels())
            for form in self._forms()
        )
        return next((problem for problem in problems if problem), "")

    def _preview_source(self) -> tuple[Any, Choices, PluginSettings] | None:
        form, card = self._current(), self.card()
        if form is None or card is None:
            return None
        if card.axes != "YX" or workflow.n_channels_of(card) > 1:
            raise ParameterError("The live preview shows models of single planes; press “Denoise now” for this one.")
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
        wanted = chosen or self.model.currentData() or DEFAULT_DENOISER
        self._cards = {card.id: card for card in list_denoisers()}
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
        self.about.setText("" if card is None else card.summary)
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
        """Denoise the chosen images in the worker."""
        card = self.card()
        if (problem := self.problem()) or card is None:
            self.foot.show_error(problem)
            return
        chosen = Chosen(self._forms())
        requests = chosen.requests(card.id, read_settings(), 8 if self.symmetries.isChecked() else 1)

        def work(on_progress: OnProgress, is_cancelled: IsCancelled) -> list[DenoisedLayer]:
            return workflow.denoise_layers(
                requests, on_progress=on_progress, is_cancelled=lambda: is_cancelled() or self._gone.is_set()
            )

        title = f"Denoise {', '.join(view.name for view in chosen.views)}"
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
            self.foot.show_info(shown_sentence(self._viewer, chosen, outcome.value))

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


def shown_sentence(viewer: Any, chosen: Chosen, found: list[DenoisedLayer]) -> str:
    """Add the results, and say what was added."""
    added, gone = chosen.add_to(viewer, found)
    if gone and not added:
        return f"{_names(gone)} was removed meanwhile; nothing was added."
    sentence = done_sentence(found, added, len(chosen.views))
    return f"{sentence} {_names(gone)} was removed meanwhile." if gone else sentence


def _names(names: Sequence[str]) -> str:
    return ", ".join(f"“{name}”" for name in names)
