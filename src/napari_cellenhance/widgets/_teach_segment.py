"""Segment an image with a trained model: which model, which outputs, and what becomes of them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QGroupBox,
    QHBoxLayout,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_cellenhance.core.errors import CellEnhanceError
from napari_cellenhance.widgets._forms import describe, new_form
from napari_cellenhance.widgets._guard import error_sentence, guarded
from napari_cellenhance.widgets._image_form import ImageForm
from napari_cellenhance.widgets._layer_picker import LayerPicker
from napari_cellenhance.widgets._layers import LayerView, pixel_sizes, snapshot
from napari_cellenhance.widgets._settings import read_settings
from napari_cellenhance.widgets._status import StatusFoot
from napari_cellenhance.widgets._teach_models import ModelMenu
from napari_cellenhance.widgets._teach_results import Segmented, class_colors, layers_of, measured, result_sentence
from napari_cellenhance.widgets._worker import Job, Outcome, start_job
from napari_cellenhance.workflows import segment_model
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, Progress
from napari_cellenhance.workflows.segment_model import InstanceOptions, SegmentModelRequest, list_segmenters, outputs_of
from napari_cellenhance.zoo.cards import ModelCard

__all__ = ["SegmentPart"]

_OUTPUTS = (
    ("classes", "Classes", "The class of every pixel.", True),
    ("instances", "Objects, each with a number", "To count and measure them.", True),
    ("translated", "Enhanced images", "The image as each learned filter changes it.", False),
    ("probabilities", "Probability of each class", "How sure the model is.", False),
    ("filters", "Filters", "What was added to the image.", False),
    ("branches", "Result of each branch", "Segmentations from the image and from each filter alone.", False),
    ("denoised", "Denoised image", "What a model that denoises first looked at.", False),
)
_METHODS = (
    ("As suits the model", "auto"), ("What hangs together", "components"), ("Cut at necks (watershed)", "watershed"),
)  # fmt: skip
_NO_MODEL = "There is no model yet: train one under “2 Train”."
_NO_IMAGE = "Open an image to segment it."

Chosen = Callable[[Any], tuple[str, Any] | None]


class SegmentPart(QWidget):
    """The section that uses the models. Holds at most one job.

    Parameters
    ----------
    viewer : ViewerModel
    chosen_of : callable
        Image layer → axes and channel that were chosen for it elsewhere, or None.
    """

    models_changed = Signal()
    made = Signal()

    def __init__(self, viewer: Any, chosen_of: Chosen, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._chosen_of = chosen_of
        self._job: Job | None = None
        self._gone = threading.Event()
        self._cards: dict[str, ModelCard] = {}
        self.picker = LayerPicker(viewer)
        self.image = ImageForm(wants_one_plane=True)
        self.model = QComboBox()
        describe(self.model, "Model", "A model that learned from labels.")
        self.menu = ModelMenu(self)
        self.boxes: dict[str, QCheckBox] = {}
        for name, title, tip, is_on in _OUTPUTS:
            box = QCheckBox(title)
            box.setToolTip(tip)
            box.setChecked(is_on)
            self.boxes[name] = box
        self.object_class = QComboBox()
        describe(self.object_class, "Objects of class", "Class whose objects are numbered.")
        self.method = QComboBox()
        for title, data in _METHODS:
            self.method.addItem(title, data)
        self.method.setCurrentIndex(self.method.findData(InstanceOptions().method))
        describe(self.method, "Objects are", "What counts as one object.")
        self.min_size = QSpinBox()
        self.min_size.setRange(0, 1_000_000)
        self.min_size.setValue(InstanceOptions().min_size_px)
        self.min_size.setSuffix(" px")
        describe(self.min_size, "At least", "Smaller objects are dropped; area in pixels.")
        self.threshold = QDoubleSpinBox()
        self.threshold.setRange(0.0, 0.95)
        self.threshold.setSingleStep(0.05)
        self.threshold.setSpecialValueText("as trained")
        describe(self.threshold, "Probability", "Above it there is an object; at 0 as the training of the model chose.")
        self.foot = StatusFoot()
        self.foot.device.setVisible(False)
        self.foot.run.setText("Segment this image")
        self.foot.run.setToolTip("The whole image, all planes; the results are new layers.")
        self.foot.cancel.setToolTip("End without a result; nothing is added.")
        self._lay_out()
        self._connect()
        self.refill()
        self._on_picked()

    def _lay_out(self) -> None:
        form = new_form()
        form.addRow("Image", self.picker)
        row = QHBoxLayout()
        row.addWidget(self.model, 1)
        row.addWidget(self.menu)
        model_row = new_form()
        model_row.addRow("Model", row)
        outputs = QGroupBox("What to make")
        column = QVBoxLayout(outputs)
        self._finer = QWidget()
        finer = new_form(self._finer)
        finer.setContentsMargins(20, 0, 0, 0)
        rows = (
            ("Of class", self.object_class), ("Apart by", self.method), ("At least", self.min_size),
            ("Probability", self.threshold),
        )  # fmt: skip
        for title, part in rows:
            finer.addRow(title, part)
        for name, box in self.boxes.items():
            column.addWidget(box)
            if name == "instances":
                column.addWidget(self._finer)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(form)
        layout.addWidget(self.image)
        layout.addLayout(model_row)
        layout.addWidget(outputs)
        layout.addWidget(self.foot)
        layout.addStretch(1)

    def _connect(self) -> None:
        self.picker.picked.connect(self._on_picked)
        self.image.changed.connect(self._on_changed)
        self.model.currentIndexChanged.connect(self._on_model)
        self.menu.changed.connect(self._on_models_changed)
        self.menu.told.connect(self.foot.show_info)
        self.menu.failed.connect(self.foot.show_error)
        for box in self.boxes.values():
            box.toggled.connect(self._on_changed)
        self.foot.run_clicked.connect(self.run)
        self.foot.cancel_clicked.connect(self._on_cancel)

    # --- what it says -------------------------------------------------------------------

    def card(self) -> ModelCard | None:
        """The chosen model."""
        return self._cards.get(self.model.currentData() or "")

    def wanted(self) -> frozenset[str]:
        """Outputs that are ticked."""
        return frozenset(name for name, box in self.boxes.items() if box.isChecked() and box.isEnabledTo(self))

    def problem(self) -> str:
        """Why nothing can be segmented; empty if it can."""
        if self.picker.layer() is None:
            return _NO_IMAGE
        if problem := self.image.problem():
            return problem
        if self.card() is None:
            return _NO_MODEL
        return "" if self.wanted() else "Tick at least one thing to make."

    def channels(self) -> Any:
        """Channel to look at; grey where there is nothing to choose."""
        chosen = self.image.chosen_channels
        return "grey" if chosen == "all" else chosen

    def request(self, view: LayerView) -> SegmentModelRequest:
        """What the section says, for a frozen layer."""
        settings, axes = read_settings(), self.image.axes_text
        return SegmentModelRequest(
            image=view.levels[0],
            axes=axes,
            model_id=self.model.currentData(),
            outputs=self.wanted() | {"classes"},
            instances=InstanceOptions(
                method=self.method.currentData(),
                min_size_px=self.min_size.value(),
                object_value=int(self.object_class.currentData() or InstanceOptions().object_value),
                threshold=self.threshold.value() or None,
            ),
            channels=self.channels(),
            device=settings.device,
            source_name=view.name,
            earlier=view.made,
            pixel_size_um=pixel_sizes([float(step) for step in view.geometry.scale], view.geometry.units, axes),
            cache_folder=settings.cache_folder,
        )

    # --- following ----------------------------------------------------------------------

    @guarded
    def refill(self, chosen: str = "") -> None:
        """Read the list of models again; ``chosen``, or the one that was, is chosen."""
        wanted = chosen or self.model.currentData()
        self._cards = {card.id: card for card in list_segmenters()}
        was_blocked = self.model.blockSignals(True)
        self.model.clear()
        for card in self._cards.values():
            self.model.addItem(card.title, card.id)
        self.model.setCurrentIndex(max(0, self.model.findData(wanted)) if self._cards else -1)
        self.model.blockSignals(was_blocked)
        self._on_model()

    def follow(self, layer: Any) -> None:
        """Take over axes and channel of an image that were chosen elsewhere, if it is the one here."""
        chosen = self._chosen_of(layer)
        if chosen is not None and layer is not None and layer == self.picker.layer():
            self.image.choose(*chosen)

    @guarded
    def _on_picked(self) -> None:
        layer = self.picker.layer()
        try:
            self.image.show_view(None if layer is None else snapshot(layer, self._viewer.dims))
        except CellEnhanceError as error:
            self.image.show_view(None)
            self.foot.show_error(error_sentence(error))
            return
        self.follow(layer)
        self._on_changed()

    @guarded
    def _on_model(self) -> None:
        card, chosen = self.card(), self.object_class.currentData()
        self.menu.set_card(card)
        known: frozenset[str] = frozenset(self.boxes if card is None else outputs_of(card))
        for name, box in self.boxes.items():
            box.setEnabled(name in known)
        self.object_class.clear()
        for one in () if card is None else card.classes:
            self.object_class.addItem(f"{one.value}: {one.name}", one.value)
        values = [self.object_class.itemData(i) for i in range(self.object_class.count())]
        default = next((value for value in values if value > 1), None)
        self.object_class.setCurrentIndex(values.index(chosen if chosen in values else default) if values else -1)
        self._on_changed()

    @guarded
    def _on_models_changed(self) -> None:
        self.refill()
        self.models_changed.emit()

    @guarded
    def _on_changed(self) -> None:
        problem = self.problem()
        self._finer.setVisible(self.boxes["instances"].isChecked())
        is_free = self._job is None
        self.foot.run.setEnabled(is_free and not problem)
        if is_free:
            self.foot.show_hint(problem)

    # --- a run --------------------------------------------------------------------------

    def show_error(self, message: str) -> None:
        """Show a sentence in the message area."""
        self.foot.show_error(message)

    @guarded
    def run(self) -> None:
        """Segment the chosen image in the worker."""
        card = self.card()
        if (problem := self.problem()) or card is None:
            self.foot.show_error(problem)
            return
        layer = self.picker.layer()
        view = snapshot(layer, self._viewer.dims)
        request = self.request(view)

        def work(on_progress: OnProgress, is_cancelled: IsCancelled) -> Segmented | None:
            result = segment_model.run(
                request, on_progress=on_progress, is_cancelled=lambda: is_cancelled() or self._gone.is_set()
            )
            return measured(result) if result.is_complete else None

        ended = partial(self._on_ended, view, request, card, self.wanted())
        self._job = start_job(f"Segment {view.name}", work, on_progress=self._on_progress, on_ended=ended)
        self.foot.run.setEnabled(False)
        self.foot.set_running(is_running=True)
        self.foot.show_info("")

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
    def _on_ended(
        self, view: LayerView, request: SegmentModelRequest, card: ModelCard, wanted: frozenset[str], outcome: Outcome
    ) -> None:
        self._job = None
        if self._gone.is_set():
            return
        self.foot.set_running(is_running=False)
        self._on_changed()
        if outcome.error is not None:
            self.foot.show_error(error_sentence(outcome.error))
        elif outcome.value is None:
            self.foot.show_info("Cancelled; nothing was added.")
        else:
            layers = layers_of(outcome.value, view, request.axes, request.channels, class_colors(card), wanted)
            added = [self._add(*layer) for layer in layers][::-1]  # as the layer list shows them
            self.foot.show_info(result_sentence(outcome.value, added))
            self.made.emit()

    def _add(self, data: Any, kwargs: dict[str, Any], kind: str) -> str:
        add = self._viewer.add_labels if kind == "labels" else self._viewer.add_image
        return str(add(data, **kwargs).name)

    def close_down(self) -> None:
        """End the job, and let go of the viewer."""
        self._gone.set()
        if self._job is not None:
            self._job.cancel()
        self.picker.release()
