"""The Enhance dock: choose a layer and a filter, slide the strength, see it live, run it."""

from __future__ import annotations

from functools import partial
from threading import Event
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QComboBox, QFormLayout, QVBoxLayout, QWidget

from napari_cellenhance.core.errors import AxesError, ParameterError
from napari_cellenhance.widgets._advisor import StrengthAdvisor
from napari_cellenhance.widgets._disk_choice import DiskChoice, disk_problem
from napari_cellenhance.widgets._disk_run import DiskPlan, DiskResult, DiskRuns
from napari_cellenhance.widgets._docking import ENHANCE
from napari_cellenhance.widgets._enhance_parts import (
    SCOPES,
    STATISTICS,
    column,
    combo,
    device_line,
    group,
    run_problem,
)
from napari_cellenhance.widgets._filter_picker import FilterPicker, refill_all
from napari_cellenhance.widgets._fold import Fold
from napari_cellenhance.widgets._forms import scrolled
from napari_cellenhance.widgets._guard import guarded
from napari_cellenhance.widgets._image_form import ImageForm, has_stack, suggest_dark
from napari_cellenhance.widgets._import_models import ImportBox, imported_sentence
from napari_cellenhance.widgets._job_dock import JobDock
from napari_cellenhance.widgets._layer_picker import LayerPicker
from napari_cellenhance.widgets._layers import Choices, LayerView, build_request, has_new_data, snapshot
from napari_cellenhance.widgets._outputs import OutputChoice
from napari_cellenhance.widgets._persistence import PersistenceBox, persistence_layers, told_in_strengths
from napari_cellenhance.widgets._preview import LivePreview
from napari_cellenhance.widgets._preview_badge import PreviewBadge
from napari_cellenhance.widgets._results import METADATA_KEY, count_objects, result_layers, result_sentence
from napari_cellenhance.widgets._settings import DEVICES, PluginSettings, read_settings
from napari_cellenhance.widgets._status import StatusFoot
from napari_cellenhance.widgets._strength import StrengthSlider
from napari_cellenhance.widgets._strength_regions import StrengthRegions
from napari_cellenhance.widgets._worker import BusyError, LatestOnly, Outcome
from napari_cellenhance.workflows import enhance, models, persistence
from napari_cellenhance.workflows.catalog import list_filters
from napari_cellenhance.workflows.persistence import PersistenceRequest, PersistenceResult
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress
from napari_cellenhance.workflows.requests import EnhanceResult

if TYPE_CHECKING:
    import napari.components

    from napari_cellenhance.core.recipes.protocol import FilterInfo

__all__ = ["EnhancePanel", "device_line", "run_problem"]

_PREPARE_AFTER_MS = 100
"""The dock is drawn first."""


class EnhancePanel(JobDock):
    """Dock panel. It holds widgets, a preview controller and at most one job; no pixels.

    Parameters
    ----------
    viewer : ViewerModel
    session : PreviewSession, optional
        Replaced in tests.
    """

    def __init__(self, viewer: napari.components.ViewerModel, session: Any = None) -> None:
        super().__init__(viewer, ENHANCE)
        self._samples = LatestOnly()
        self._sampled = 0
        self.layers = LayerPicker(viewer)
        self.image = ImageForm()
        self.filters = FilterPicker(list_filters())
        self.strength = StrengthSlider()
        self.regions = StrengthRegions(viewer)
        self.regions_fold = Fold("Strength by region", "Other strengths in painted regions.", self.regions)
        self.badge = PreviewBadge()
        self.scope = combo(SCOPES, "Scope", "Whole layer, the slice on screen, or only the part that is in view.")
        self.statistics = combo(
            STATISTICS,
            "Statistics",
            "Brightness is measured for every plane, or once for the whole stack, against flicker along T and Z.",
        )
        self.outputs = OutputChoice()
        self.disk = DiskChoice()
        self.on_disk = DiskRuns(viewer, self)
        self.device = combo(
            tuple((name, name) for name in DEVICES),
            "Device",
            "auto takes the graphics card if there is one that works.",
        )
        self.persistence = PersistenceBox()
        self.persistence_fold = Fold("Persistence map", "Which objects last as the strength rises.", self.persistence)
        self.imports = ImportBox()
        self.imports_fold = Fold("Import models", "Networks that the authors publish.", self.imports)
        self.foot = StatusFoot()
        self.preview = LivePreview(viewer, self._preview_source, session)
        foot = self.foot
        self.advisor = StrengthAdvisor(
            self.strength, self.preview, foot.show_info, foot.show_error, take_back=foot.take_back
        )
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.timeout.connect(self.preview.prepare)
        self._lay_out()
        self._connect()
        self._choose_combo(self.device, read_settings().device)
        self.show_device("")
        self._on_filter()
        self._on_layer()

    # --- layout -------------------------------------------------------------------------

    def _lay_out(self) -> None:
        fields = QWidget()
        self._form = QFormLayout(fields)
        self._form.setContentsMargins(0, 0, 0, 0)
        self._form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        self._form.addRow("Scope", self.scope)
        self._form.addRow("Statistics", self.statistics)
        self._form.addRow("Device", self.device)
        self.settings_area = scrolled(
            column(
                group("Image", self.layers, self.image),
                group("Filter", self.filters, self.strength, self.regions_fold, self.badge),
                group("Output", fields, self.disk, self.outputs),
                group("More", self.persistence_fold, self.imports_fold),
            )
        )
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.addWidget(self.settings_area, 1)
        layout.addWidget(self.foot)

    def _connect(self) -> None:
        self.layers.picked.connect(self._on_layer)
        self.image.changed.connect(self._on_changed)
        self.image.suggestion_wanted.connect(self._suggest)
        self.filters.picked.connect(self._on_filter)
        self.strength.changed.connect(self._on_changed)
        self.regions.changed.connect(self._on_changed)
        self.persistence.wanted.connect(self.map_persistence)
        self.imports.chosen.connect(self.import_models)
        self.badge.toggled.connect(self._on_preview)
        for choice in (self.scope, self.statistics, self.device):
            choice.currentIndexChanged.connect(self._on_changed)
        self.outputs.changed.connect(self._on_changed)
        self.disk.changed.connect(self._on_changed)
        self.on_disk.noted.connect(self.foot.show_info)
        self.on_disk.shown.connect(self._on_shown)
        self.foot.run_clicked.connect(self.run)
        self.foot.cancel_clicked.connect(self._on_cancel)
        self.preview.status_changed.connect(self.badge.show_status)
        self.preview.device_known.connect(self.show_device)
        self._samples.delivered.connect(self._on_suggested)
        # When the whole window goes, only Qt knows; by then no method of this panel may be called.
        self.destroyed.connect(partial(_let_go, self._gone, self.preview, self._samples, self.advisor))

    # --- what the panel says ------------------------------------------------------------

    def choices(self) -> Choices | None:
        """Everything chosen, apart from the layer; None without any filter."""
        info = self.filters.info()
        if info is None:
            return None
        return Choices(
            axes=self.image.axes_text,
            filter_id=info.id,
            strength=self.strength.value,
            objects_are_dark=self.image.dark.isChecked() and not _takes_grey_values(info),
            channels=self.image.chosen_channels,
            scope=self.scope.currentData(),
            statistics=self.statistics.currentData(),
            device=self.device.currentData(),
            segment=self.outputs.segment(),
            blobs=self.outputs.blobs(),
            strength_map=self.regions.strength_map(),
            suggestion=self.strength.suggestion,
        )

    def _preview_source(self) -> tuple[Any, Choices, PluginSettings] | None:
        layer, choices = self.layers.layer(), self.choices()
        if layer is None or choices is None:
            return None
        if problem := self.image.problem():
            raise AxesError(problem)
        return layer, choices, read_settings()

    def _view(self) -> LayerView | None:
        layer = self.layers.layer()
        return None if layer is None else snapshot(layer, self._viewer.dims)

    # --- slots --------------------------------------------------------------------------

    @guarded
    def _on_layer(self) -> None:
        try:
            view = self._view()
        except (ParameterError, AxesError):
            self.image.show_view(None)
            raise
        self.image.show_view(view)
        self.disk.show_layer(self.layers.layer())
        self.advisor.forget()
        self._on_changed()

    @guarded
    def _on_filter(self) -> None:
        info = self.filters.info()
        self.strength.setEnabled(info is not None)
        self.advisor.forget()
        if info is not None:
            self.strength.set_info(info.strength)
            self.strength.suggest.setVisible(info.group == "NU-Net")
            self.image.dark.setEnabled(not _takes_grey_values(info))
        self._on_changed()

    @guarded
    def _on_changed(self) -> None:
        if self._gone.is_set():
            return
        view, choices = self._view(), self.choices()
        is_stack = view is not None and choices is not None and has_stack(choices.axes, view.shape)
        self._form.setRowVisible(self.statistics, is_stack)
        if (info := self.filters.info()) is not None:
            self.regions.set_strength(info.strength, self.strength.value)
        problem = run_problem(view, choices, self.image.problem())
        self.disk.show_choices(view, choices, read_settings().large_from_mb)
        plan = self._disk_plan(view, choices)
        if plan is not None and not problem:
            problem = disk_problem(plan.choices)
        self.foot.run.setText("Go on" if plan is not None and self.on_disk.can_go_on(plan) else "Run")
        self.foot.run.setEnabled(not problem and self._job is None)
        self.persistence.make.setEnabled(not problem and self._job is None)
        self.imports.button.setEnabled(self._job is None)
        if self._job is None:
            self.foot.show_hint(problem)
        self.preview.refresh()

    @guarded
    def _on_preview(self, is_on: bool) -> None:
        self.preview.set_on(is_on)

    @guarded
    def _suggest(self) -> None:
        view = self._view()
        if view is not None:
            self._sampled = self._samples.submit(partial(suggest_dark, view, self.image.axes_text))

    @guarded
    def _on_suggested(self, ticket: int, outcome: Outcome) -> None:
        # A sample that cannot be judged (all NaN, say) is no reason to bother anyone before Run.
        if ticket == self._sampled and outcome.error is None and not self._gone.is_set():
            self.image.show_suggestion(outcome.value)

    @guarded
    def run(self) -> None:
        """Start a run with what the panel says; at most one at a time."""
        layer, view, choices = self.layers.layer(), self._view(), self.choices()
        problem = run_problem(view, choices, self.image.problem())
        if problem or view is None or choices is None:
            self.foot.show_error(problem)
            return
        settings = read_settings()
        if (plan := self._disk_plan(view, choices)) is not None:
            self._run_on_disk(layer, plan)
            return

        def work(on_progress: OnProgress, is_cancelled: IsCancelled) -> tuple[EnhanceResult, int]:
            request = build_request(view, choices, settings)
            result = enhance.run(request, on_progress=on_progress, is_cancelled=is_cancelled)
            return result, count_objects(result)

        self._start(f"Enhance {view.name}", work, partial(self._show_run, layer, view, choices))

    def _disk_plan(self, view: LayerView | None, choices: Choices | None) -> DiskPlan | None:
        """What to write to the disk; None for a result in memory."""
        if view is None or choices is None or not self.disk.is_on_disk:
            return None
        return DiskPlan(view=view, choices=choices, settings=read_settings(), folder=self.disk.place)

    def _run_on_disk(self, layer: Any, plan: DiskPlan) -> None:
        if problem := disk_problem(plan.choices):
            self.foot.show_error(problem)
            return

        def show(result: DiskResult) -> None:
            self.foot.show_info(self.on_disk.finish(result))
            self._tell_new_data(layer, plan.view)
            self._on_changed()

        try:
            self._start(f"Enhance {plan.view.name}", self.on_disk.begin(plan), show)
        except BusyError:
            self.on_disk.fail()
            raise
        if self._job is not None:
            self._job.progressed.connect(self.on_disk.refresh)

    @guarded
    def _on_shown(self, layer: Any) -> None:
        self.preview.lay_over(layer)
        self._select_source()
        if line := device_line(layer.metadata[METADATA_KEY]):
            self.show_device(line)

    @guarded
    def map_persistence(self) -> None:
        """Start a sweep over the strength with what the panel says."""
        view, choices = self._view(), self.choices()
        problem = run_problem(view, choices, self.image.problem())
        if problem or view is None or choices is None:
            self.foot.show_error(problem)
            return
        settings, n_strengths = read_settings(), self.persistence.n_strengths.value()

        def work(on_progress: OnProgress, is_cancelled: IsCancelled) -> PersistenceResult:
            request = PersistenceRequest(enhance=build_request(view, choices, settings), n_strengths=n_strengths)
            tell = told_in_strengths(on_progress, n_strengths)
            return persistence.run(request, on_progress=tell, is_cancelled=is_cancelled)

        self._start(f"Persistence of {view.name}", work, partial(self._show_persistence, view, choices))

    @guarded
    def import_models(self, path: str) -> None:
        """Convert an archive to models of the user, in a thread."""

        def work(_on_progress: OnProgress, _is_cancelled: IsCancelled) -> tuple[models.ShelfCard, ...]:
            return models.import_archive(path)

        self._start("Import models", work, self._show_imported)

    def _on_busy(self) -> None:
        self.preview.hold(self._job is not None)
        self._on_changed()

    def _on_failed(self, error: BaseException) -> None:
        self.on_disk.fail()
        self._on_changed()
        super()._on_failed(error)

    def _show_run(self, layer: Any, view: LayerView, choices: Choices, value: tuple[EnhanceResult, int]) -> None:
        self._add(*value, view, choices)
        self._tell_new_data(layer, view)

    def _tell_new_data(self, layer: Any, view: LayerView) -> None:
        if has_new_data(layer, view):
            self.foot.add_info(f"The data of “{view.name}” changed while it ran; the result shows the earlier data.")

    def _show_persistence(self, view: LayerView, choices: Choices, result: PersistenceResult) -> None:
        if not result.is_complete and not result.n_objects:
            self.foot.show_info("Cancelled before anything was finished; no layer was added.")
            return
        for data, kwargs, kind in persistence_layers(result, view, choices):
            getattr(self._viewer, f"add_{kind}")(data, **kwargs)
        self.persistence.show_result(result)
        self.show_device(device_line(result.provenance))
        self._select_source()
        self.foot.show_info(result.sentence())

    def _show_imported(self, cards: tuple[models.ShelfCard, ...]) -> None:
        refill_all(list_filters())
        self.filters.choose(cards[0].info.id)
        self.foot.show_info(imported_sentence(cards))

    def _select_source(self) -> None:
        source = self.layers.layer()
        if source is not None:
            self._viewer.layers.selection.active = source

    def _add(self, result: EnhanceResult, n_objects: int, view: LayerView, choices: Choices) -> None:
        if line := device_line(result.provenance):
            self.show_device(line)
        if not result.is_complete and result.n_done == 0:
            self.foot.show_info("Cancelled before anything was finished; no layer was added.")
            return
        added = [
            getattr(self._viewer, f"add_{kind}")(data, **kwargs)
            for data, kwargs, kind in result_layers(result, view, choices)
        ]
        self.preview.lay_over(added[0])
        self._select_source()
        self.foot.show_info(result_sentence(result, [str(layer.name) for layer in added], n_objects))

    # --- showing ------------------------------------------------------------------------

    def show_device(self, note: str) -> None:
        """Show where the filter runs."""
        text = note or "Device is chosen at the first run."
        self.foot.device.setText(text[:1].upper() + text[1:])

    def show_error(self, message: str) -> None:
        """Show a sentence in the message area."""
        self.foot.show_error(message)

    def select(self, layer: Any) -> None:
        """Choose a layer from outside (menu commands)."""
        self.layers.choose(layer)

    def _choose_combo(self, combo: QComboBox, data: str) -> None:
        combo.setCurrentIndex(max(0, combo.findData(data)))

    # --- the beginning and the end ------------------------------------------------------

    def showEvent(self, event: QShowEvent | None) -> None:
        """Import torch while the user is still choosing."""
        super().showEvent(event)
        if not self._gone.is_set():
            self._soon.start(_PREPARE_AFTER_MS)

    def let_go(self) -> None:
        """Release the viewer and everything that listens to it."""
        self._soon.stop()
        self._samples.close()
        self.advisor.close()
        self.preview.close()
        self.layers.release()
        self.regions.release()
        self.on_disk.release()


def _takes_grey_values(info: FilterInfo) -> bool:
    """Whether a filter is given the image as it is, so that nothing is turned round."""
    return info.group == "BioImage.IO"


def _let_go(gone: Event, preview: LivePreview, samples: LatestOnly, advisor: StrengthAdvisor, *_: Any) -> None:
    gone.set()
    preview.abandon()
    samples.close()
    advisor.close()
