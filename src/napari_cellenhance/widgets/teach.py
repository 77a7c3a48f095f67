"""The dock “Teach it your cells”: paint some strokes, train a segmenting model on them, and segment with it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_cellenhance.core.errors import CellEnhanceError
from napari_cellenhance.widgets._checked_layers import CheckedLayers
from napari_cellenhance.widgets._docking import TEACH
from napari_cellenhance.widgets._filter_picker import refill_all
from napari_cellenhance.widgets._forms import boxed, new_tabs, scrolled
from napari_cellenhance.widgets._guard import error_sentence, guarded
from napari_cellenhance.widgets._settings import read_settings
from napari_cellenhance.widgets._teach_classes import ClassTable, paint_problem
from napari_cellenhance.widgets._teach_layer_form import TeachLayerForm
from napari_cellenhance.widgets._teach_live import LiveAsk, TeachLive
from napari_cellenhance.widgets._teach_place import AnswerLayer, Window
from napari_cellenhance.widgets._teach_run import (
    Prepare,
    TeachRun,
    build_aep_request,
    ended_sentence,
    score_sentence,
    taken_ids,
)
from napari_cellenhance.widgets._teach_segment import SegmentPart
from napari_cellenhance.widgets._teach_settings import TeachSettings
from napari_cellenhance.widgets._teach_view import TeachView
from napari_cellenhance.widgets._train_goal import model_id_of
from napari_cellenhance.widgets._training_dock import TrainingDock
from napari_cellenhance.widgets._worker import LatestOnly, Outcome
from napari_cellenhance.workflows.catalog import list_filters
from napari_cellenhance.workflows.instant import InstantSession
from napari_cellenhance.workflows.live_paint import LivePaint
from napari_cellenhance.workflows.paint import PaintLook, copied, look_at_paint
from napari_cellenhance.workflows.segment_model import list_segmenters
from napari_cellenhance.workflows.train_aep import AEPRequest, AEPResult

if TYPE_CHECKING:
    import napari.components

__all__ = ["TeachPanel"]

_COUNT_AFTER_MS = 300
_PAINT, _TRAIN, _PROGRESS, _SEGMENT = range(4)


class TeachPanel(TrainingDock):
    """Dock panel. It holds widgets and at most one training; no pixels but those of one that can be resumed.

    Parameters
    ----------
    viewer : ViewerModel
    """

    def __init__(self, viewer: napari.components.ViewerModel) -> None:
        super().__init__(viewer, TEACH)
        self._paint: PaintLook | None = None
        self._last_choice: tuple[Any, ...] = ()
        self._counted = 0
        self._counts = LatestOnly()
        self.classes = ClassTable()
        self.images = CheckedLayers(viewer, self._new_form, name="Images to learn from", purpose="learn from")
        self.settings = TeachSettings(list_segmenters())
        self.view = TeachView()
        self.segment = SegmentPart(viewer, self._chosen_of)
        self.learning = AnswerLayer(viewer, "learning")
        self.live = TeachLive(viewer, self._live_ask, LivePaint(InstantSession(_device())))
        self._count_timer = QTimer(self)
        self._count_timer.setSingleShot(True)
        self._count_timer.setInterval(_COUNT_AFTER_MS)
        self._count_timer.timeout.connect(self._count)
        self._word_buttons()
        self._lay_out()
        self._connect()
        self._on_images()

    # --- layout -------------------------------------------------------------------------

    def _word_buttons(self) -> None:
        self.foot.run.setToolTip("Learn from the paint; you can go on painting and working in napari meanwhile.")
        self.foot.cancel.setToolTip("End without a new model. What was learned so far stays on disk for “Resume”.")
        self.resume.setToolTip("Go on where the training of this name ended, with the very same paint and settings.")

    def _lay_out(self) -> None:
        paint, setup = QWidget(), QWidget()
        for page, parts in (
            (paint, (("Images", self.images), ("Classes", self.classes), ("Instant answer", self.live))),
            (setup, (("Training", self.settings),)),
        ):
            column = QVBoxLayout(page)
            column.setContentsMargins(0, 0, 0, 0)
            for title, part in parts:
                column.addWidget(boxed(title, part))
            column.addStretch(1)
        self.tabs = new_tabs()
        pages = (("1 Paint", paint), ("2 Train", setup), ("3 Progress", self.view), ("4 Segment", self.segment))
        for title, content in pages:
            self.tabs.addTab(scrolled(content), title)
        self._below = self.training_foot()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.addWidget(self.tabs, 1)
        layout.addWidget(self._below)

    def _connect(self) -> None:
        self.images.changed.connect(self._on_images)
        self.classes.changed.connect(self._on_classes)
        self.classes.chosen.connect(self._on_class_chosen)
        self.settings.changed.connect(self._on_changed)
        self.segment.models_changed.connect(self._on_models)
        self.segment.made.connect(self.learning.remove)
        self.tabs.currentChanged.connect(self._on_tab)
        self._counts.delivered.connect(self._on_counted)

    def _new_form(self, layer: Any) -> TeachLayerForm:
        form = TeachLayerForm(self._viewer, layer)
        form.painted.connect(self._on_painted)
        form.stroked.connect(self._on_stroked)
        form.brush_chosen.connect(self.classes.highlight)
        return form

    # --- what the panel says ------------------------------------------------------------

    def problem(self) -> str:
        """Why training is not possible; empty when it is."""
        if problem := self.images.problem():
            return problem
        if self._paint is None:
            return "Counting the paint…"
        return self._paint.problem or paint_problem(self._paint.counts, self.classes.names) or self.settings.problem()

    def request(self) -> AEPRequest:
        """What the panel says, with copies of the paint."""
        layers = tuple(copied(form.painted_layer()) for form in self.images.forms())
        painted = self._paint.counts if self._paint is not None else {}
        looks = {value: look for value, look in self.classes.looks.items() if value in painted}
        return build_aep_request(layers, self.settings.goal(), looks, _device())

    def _chosen_of(self, layer: Any) -> tuple[str, Any] | None:
        """Axes and channel of an image that is learned from."""
        forms = [form for form in self.images.forms() if form.layer == layer and not form.image.problem()]
        return (forms[0].image.axes_text, forms[0].channels()) if forms else None

    # --- paint --------------------------------------------------------------------------

    @guarded
    def _on_images(self) -> None:
        """Look again at all that is chosen."""
        if self._gone.is_set():
            return
        forms = self.images.forms()
        for form in forms:
            self.classes.take(form.looks())
            self.segment.follow(form.layer)
        self._dress()
        self.settings.suggest_name(str(forms[0].layer.name) if forms else "")
        choice = tuple(form.choice() for form in forms)
        if choice != self._last_choice:
            self._last_choice, self._paint = choice, None
            self.live.wish()
        self._count()
        self._on_changed()

    @guarded
    def _on_classes(self) -> None:
        self._dress()
        for answer in (self.learning, self.live.answer):
            answer.recolour(self.classes.colors)
        self._on_changed()

    def _dress(self) -> None:
        for form in self.images.forms():
            form.dress(self.classes.looks)

    @guarded
    def _on_class_chosen(self, value: int) -> None:
        forms = self.images.forms()
        for form in forms:
            if form is not self.images.current_form():
                form.set_label(value)
        if forms:
            self.images.current_form().take_brush(value)

    @guarded
    def _on_painted(self) -> None:
        if not self._count_timer.isActive():
            self._count_timer.start()

    @guarded
    def _on_stroked(self) -> None:
        self.live.wish()

    def _live_ask(self) -> LiveAsk | str:
        """What the instant answer works on, or why there is none."""
        form, forms = self.images.current_form(), self.images.forms()
        if (problem := self.images.problem()) or form is None:
            return problem
        layers = tuple(each.painted_layer() for each in forms)
        return LiveAsk(
            layers=layers, shown=forms.index(form), window=form.seen(), above=form.layer, colors=self.classes.colors
        )  # fmt: skip

    @guarded
    def _count(self) -> None:
        """Count the paint in a thread."""
        if self._gone.is_set() or self.images.problem():
            self.classes.set_counts({})
            return
        layers = [form.painted_layer() for form in self.images.forms()]
        self._counted = self._counts.submit(partial(look_at_paint, layers))

    @guarded
    def _on_counted(self, ticket: int, outcome: Outcome) -> None:
        if ticket != self._counted or self._gone.is_set():
            return
        if outcome.error is not None:
            self._paint = PaintLook(counts={}, problem=error_sentence(outcome.error))
        else:
            self._paint = outcome.value
        self.classes.set_counts(self._paint.counts)
        self._on_changed()

    # --- buttons ------------------------------------------------------------------------

    @guarded
    def _on_changed(self) -> None:
        if self._gone.is_set():
            return
        self.settings.show_replaced(is_replaced=self.model_id() in {card.id for card in list_segmenters()})
        self.show_buttons(self.problem())

    def show_state(self) -> None:
        """Show again what can be pressed."""
        self._on_changed()

    @guarded
    def _on_tab(self, index: int) -> None:
        self._below.setVisible(index != _SEGMENT)

    def model_id(self) -> str:
        """Id of the model that a training would make."""
        return model_id_of(self.settings.goal().title, taken_ids())

    def _prepare(self) -> Prepare | None:
        return self.live.paint.sure if self.settings.goal().learns_from_answer else None

    @guarded
    def _on_models(self) -> None:
        """The list of models has changed."""
        self.settings.set_models(list_segmenters())
        refill_all(list_filters())
        self._on_changed()

    # --- a training ---------------------------------------------------------------------

    def new_run(self) -> TeachRun:
        """A training with what the panel says."""
        return TeachRun(self.request(), self._gone, self._prepare())

    def show_started(self, run: TeachRun) -> None:
        """Get ready to show a training."""
        self.live.switch.setChecked(False)  # two answers over each other say nothing
        self.learning.remove()
        run.look_at(self._window())
        self.view.start(self.classes.looks)
        self.tabs.setCurrentIndex(_PROGRESS)

    def _window(self) -> Window | None:
        """What is on screen of the highlighted image."""
        form = self.images.current_form()
        try:
            return None if form is None or form.image.problem() else form.seen()
        except CellEnhanceError:
            return None

    def show_news(self, run: TeachRun) -> None:
        """Let the curves grow, and show the newest answer."""
        run.look_at(self._window())
        rows, _, best_step = run.news.take()
        self.view.add(rows, best_step)
        glimpse = run.take_seen()
        if glimpse is None:
            return
        found = glimpse.shown
        self.view.show_weights(dict(zip(found.branch_names, map(float, found.branch_weights), strict=True)))
        self._show_learning(found.labels, glimpse.window.key, glimpse.window.region)

    def _show_learning(self, labels: Any, window: Window, region: Any) -> None:
        """Lay the segmentation of the moment over its image, if that is still there."""
        source = window.view.levels[0]
        above = next((f.layer for f in self.images.forms() if f.view().levels[0] is source), None)
        if above is not None:
            self.learning.show(labels, window, region, self.classes.colors, above)

    def show_ended(self, run: TeachRun, outcome: Outcome) -> None:
        """Offer the new model, and say how good it is."""
        result: AEPResult | None = outcome.value
        if result is None or result.card is None:
            self.learning.remove()
        else:
            self._take_model(run, result)
        if result is not None:
            meaning = score_sentence(result.held_out, is_answer_learned=run.is_prepared)
            self.view.finish(result.mean_iou, meaning, is_broken=result.stopped == "diverged")
            self.foot.show_info(ended_sentence(result, run.request.title))

    def _take_model(self, run: TeachRun, result: AEPResult) -> None:
        """Offer the new model for segmenting, and for training more."""
        self.view.show_weights(result.weights_of_branches)
        self.learning.rename(f"learned: {run.request.title}")
        if result.stopped == "finished":
            self._finished.add(result.model_id)
        refill_all(list_filters())
        self.settings.set_models(list_segmenters(), result.model_id)
        self.segment.refill(result.model_id)

    # --- showing ------------------------------------------------------------------------

    def select(self, layer: Any) -> None:
        """Check a layer from outside (menu commands)."""
        self.images.check(layer)

    # --- the end ------------------------------------------------------------------------

    def let_go(self) -> None:
        """Release the viewer and everything that listens to it; the paint stays where it is."""
        self._count_timer.stop()
        self._clock.stop()
        self._counts.close()
        self.live.close_down()
        self.learning.remove()
        self.images.release()
        self.segment.close_down()


def _device() -> str:
    """Device of the preferences, for networks that run on all but OpenVINO."""
    device = read_settings().device
    return "cpu" if device == "openvino" else device
