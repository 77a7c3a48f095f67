"""Every open list of models shows what there is now; and the dock in which a model is used."""

from __future__ import annotations

from typing import Any

from qtpy.QtWidgets import QApplication

from napari_cellenhance.widgets._docking import DENOISE, ENHANCE, KEEP, RESTORE, TEACH, open_panel
from napari_cellenhance.widgets._filter_picker import refill_all
from napari_cellenhance.widgets._model_now import ModelNow
from napari_cellenhance.widgets._teach_segment import SegmentPart
from napari_cellenhance.workflows.catalog import list_filters
from napari_cellenhance.zoo.cards import ModelCard

__all__ = ["open_with", "refresh_lists"]

_DOCKS = {
    "n2v": (DENOISE, "Denoise"), "care": (RESTORE, "Restore like these"), "semantic": (KEEP, "Keep only…"),
    "aep": (TEACH, "Teach it your cells"), "voidseg": (TEACH, "Teach it your cells"),
    "stardist": (TEACH, "Teach it your cells"),
}  # fmt: skip
_SEGMENT_TAB = 3


def refresh_lists() -> int:
    """Let the lists of models in all docks be read again; returns how many there are."""
    app = QApplication.instance()
    widgets = app.allWidgets() if isinstance(app, QApplication) else []
    parts = [w for w in widgets if isinstance(w, (ModelNow, SegmentPart))]
    for part in parts:
        part.refill()
    return refill_all(list_filters()) + len(parts)


def open_with(viewer: Any, card: ModelCard, layer: Any = None, *, in_enhance: bool = False) -> str:
    """Open the dock of a model's method, with that model chosen; returns the title of the dock.

    Parameters
    ----------
    viewer : Viewer
    card : ModelCard
    layer : Layer or None
        Image that the Enhance dock shall have chosen.
    in_enhance : bool
        Take the Enhance dock, for a filter of another method too.
    """
    name, title = (ENHANCE, "Enhance cells") if in_enhance else _DOCKS.get(card.recipe, (ENHANCE, "Enhance cells"))
    panel = open_panel(viewer, name, title)
    if name == ENHANCE:
        panel.filters.choose(card.id)
        if layer is not None:
            panel.select(layer)
    elif name == TEACH:
        panel.segment.refill(card.id)
        panel.tabs.setCurrentIndex(_SEGMENT_TAB)
    else:
        panel.now.refill(card.id)
        panel.tabs.setCurrentIndex(0)
    return title
