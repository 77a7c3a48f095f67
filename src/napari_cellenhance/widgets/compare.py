"""The Compare dock: images before and after by wipe, blink and side by side; difference, numbers, trust, a figure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_cellenhance.widgets._compare_canvas import Wipe, has_canvas
from napari_cellenhance.widgets._compare_figure import FigureTab
from napari_cellenhance.widgets._compare_form import CompareForm
from napari_cellenhance.widgets._compare_look import BLINK, OFF, SIDE, SLIDER_STEPS, WIPE, LookTab
from napari_cellenhance.widgets._compare_numbers import NumbersTab
from napari_cellenhance.widgets._compare_trust import TrustTab
from napari_cellenhance.widgets._compare_view import Blink, ContrastLink, SavedView, SideBySide, hide_others
from napari_cellenhance.widgets._docking import COMPARE, MEASURE, bare, open_panel
from napari_cellenhance.widgets._guard import guarded
from napari_cellenhance.widgets._layer_picker import image_layers
from napari_cellenhance.widgets._measure_form import layers_of
from napari_cellenhance.widgets._measure_layers import is_enhanced
from napari_cellenhance.widgets._tab_dock import TabDock

if TYPE_CHECKING:
    import napari.components

__all__ = ["DOCK_TITLE", "ComparePanel"]

DOCK_TITLE = "Compare"
_MEASURE_TITLE = "Measure"
_FLAT_ONLY = "The wipe is for flat views: switch to 2-D (the cube button, bottom left), or look side by side."
_NO_CANVAS = "The canvas of this napari cannot be reached, so there is no wipe; blink or look side by side."


class ComparePanel(TabDock):
    """Dock panel. While it changes the view it keeps how it was, and brings it back: with Off, and when it closes.

    Parameters
    ----------
    viewer : ViewerModel
    """

    form: CompareForm

    def __init__(self, viewer: napari.components.ViewerModel) -> None:
        self.look, self.numbers, self.trust, self.figure = LookTab(), NumbersTab(), TrustTab(), FigureTab(viewer)
        self._saved: SavedView | None = None
        self._wipe: Wipe | None = None
        self._blink: Blink | None = None
        self._link: ContrastLink | None = None
        self._looks_at: tuple[Any, ...] = ()
        self._links: tuple[Any, ...] = ()
        super().__init__(viewer, COMPARE, CompareForm(viewer), (self.look, self.numbers, self.trust, self.figure))
        self.form.refilled.connect(self._on_refilled)
        self.look.look_changed.connect(self._follow)
        self.look.wipe_moved.connect(self._on_wipe_moved)
        self.look.rate_changed.connect(self._on_rate)
        self.look.plot_wanted.connect(self._open_plot)
        viewer.dims.events.ndisplay.connect(self._on_display)
        self._on_refilled()
        self._on_tab()

    # --- following the choices ----------------------------------------------------------

    @guarded
    def _on_refilled(self) -> None:
        images = image_layers(self._viewer)
        points = [layer for layer in layers_of(self._viewer, "Points") if not is_enhanced(layer)]
        self.numbers.fill_layers(images, layers_of(self._viewer, "Labels"), points, self._viewer.dims)

    def after_change(self) -> None:
        """Look at the layers that are chosen now."""
        layers = self.form.layers()
        self.figure.set_layers(layers)
        self.trust.set_layers(layers)
        self.look.fill_after([str(layer.name) for layer in layers[1:]])
        self._follow()

    @guarded
    def _follow(self) -> None:
        if self._gone.is_set():
            return
        layers, way = self.form.layers(), self.look.way
        if way != OFF and (problem := self._reason_against(way, layers)):
            self._leave()
            self.look.look(OFF)
            self.foot.show_error(problem)
            return
        row = max(0, self.look.which.currentIndex())
        wanted = (way, self.look.edge.currentData(), row if way == WIPE else None, *(bare(layer) for layer in layers))
        if way == OFF:
            self._leave()
        elif _differ(wanted, self._looks_at):
            self._leave()
            self._saved = SavedView(self._viewer)
            self._looks_at = wanted
            self._start_look(way, layers, row)
        self._follow_link(layers)

    def _reason_against(self, way: str, layers: list[Any]) -> str:
        if len(layers) < 2:
            return "Tick at least one image after to compare with."
        if way == WIPE and self._viewer.dims.ndisplay != 2:
            return _FLAT_ONLY
        return _NO_CANVAS if way == WIPE and not has_canvas(self._viewer) else ""

    def _start_look(self, way: str, layers: list[Any], row: int) -> None:
        if way == SIDE:
            SideBySide(self._viewer, layers)
        elif way == BLINK:
            self._blink = Blink(self._viewer, layers, self.look.interval_ms, self._on_blinked)
        else:
            pair = (layers[0], layers[1:][row])
            hide_others(self._viewer, pair, only_images=True)
            share, edge = self.look.place.value() / SLIDER_STEPS, self.look.edge.currentData()
            self._wipe = Wipe(bare(self._viewer), *pair, edge, share, self.look.set_share)

    def _leave(self) -> None:
        """Bring the view back as it was."""
        for part in (self._wipe, self._blink):
            if part is not None:
                part.close()
        self._wipe = self._blink = None
        self._looks_at = ()
        if self._saved is not None:
            saved, self._saved = self._saved, None
            saved.restore()

    def _follow_link(self, layers: list[Any]) -> None:
        how = self.look.link.currentData()
        able = [layer for layer in layers if not layer.rgb]
        wanted = (how, *(bare(layer) for layer in able)) if how and len(able) > 1 else ()
        if not _differ(wanted, self._links):
            return
        if self._link is not None:
            self._link.close()
        self._links = wanted
        self._link = ContrastLink(able, how) if wanted else None

    @guarded
    def look_at_trust(self, layer: Any) -> None:
        """Choose a result and its source, and bring the tab “Trust” to the front."""
        self.form.choose(layer)
        self.tabs.setCurrentWidget(self.trust)

    # --- slots --------------------------------------------------------------------------

    @guarded
    def _on_display(self) -> None:
        if self._wipe is not None and self._viewer.dims.ndisplay != 2:
            self._follow()

    @guarded
    def _on_wipe_moved(self, share: float) -> None:
        if self._wipe is not None:
            self._wipe.move_to_share(share)

    @guarded
    def _on_rate(self, interval_ms: int) -> None:
        if self._blink is not None:
            self._blink.set_interval(interval_ms)

    def _on_blinked(self, layer: Any) -> None:
        self.look.shown.setText(str(layer.name))

    @guarded
    def run(self) -> None:
        """Do what the tab in front is for; a figure asks for its file first."""
        if self.tab() is not self.figure or self.figure.ask():
            self._start(self.tab().job)

    @guarded
    def _open_plot(self, tab: str) -> None:
        layers = self.form.layers()
        measure = open_panel(bare(self._viewer), MEASURE, _MEASURE_TITLE)
        if layers:
            measure.form.raw.choose(layers[0])
            for layer in measure.form.enhanced.layers:
                measure.form.tick(layer, layer in layers[1:])
            measure.profile.choose_images(layers)
        measure.tabs.setCurrentWidget(getattr(measure, tab))

    # --- the end ------------------------------------------------------------------------

    def let_go(self) -> None:
        """Bring the view and the contrast back; release the viewer."""
        self._leave()
        if self._link is not None:
            self._link.close()
            self._link = None
        self._viewer.dims.events.ndisplay.disconnect(self._on_display)
        for tab in self._all_tabs:
            tab.release()
        self.form.release()


def _differ(first: tuple[Any, ...], second: tuple[Any, ...]) -> bool:
    return len(first) != len(second) or any(a is not b and a != b for a, b in zip(first, second, strict=True))
