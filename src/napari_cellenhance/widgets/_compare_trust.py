"""Tab “Trust”: is this result true? Every guard with a word, a sentence and, if wished, a map."""

from __future__ import annotations

import html
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QCheckBox, QLabel, QWidget

from napari_cellenhance.widgets._measure_layers import Chosen
from napari_cellenhance.widgets._measure_tab import MeasureTab, TabJob
from napari_cellenhance.widgets._results import METADATA_KEY, LayerTuple
from napari_cellenhance.workflows.guards import WORDS, CheckRequest, CheckResult, GuardMap, check, worst
from napari_cellenhance.workflows.input_guards import Finding

__all__ = ["TrustTab", "findings_html", "map_layers"]

_LOOK = {"fine": ("●", "#3fa66b"), "look": ("▲", "#d99a00"), "doubt": ("■", "#e05a3c")}
"""Level → sign and colour; the word stands beside them, so that nobody needs the colour."""
_TITLES = {
    "input": "Kind of image", "size": "Size of objects", "empty": "Empty plane", "saturation": "Cut-off light",
    "residual": "Difference", "objects": "Objects", "spread": "Turned copies", "halves": "Halves",
    "uncertainty": "Uncertainty",
}  # fmt: skip
_COLOURS: dict[int | None, str] = {1: "#ff5c3c", 2: "#4cc9f0", 3: "#ffd23f"}
"""Places that only the image has, only the result, or that differ in texture: bright on dark images, in that order."""
_SUMMARY = {
    "fine": "Nothing suspicious was found. That is no proof: guards miss things, see “Is it true?” in the manual.",
    "look": "Look at these points before you rely on this result.",
    "doubt": "Do not rely on this result before you have looked at these points.",
}


def findings_html(findings: tuple[Finding, ...]) -> str:
    """The guards as a list, the gravest first."""
    order = list(reversed(_LOOK))
    lines = []
    for one in sorted(findings, key=lambda each: order.index(each.level)):
        sign, colour = _LOOK[one.level]
        title = html.escape(_TITLES.get(one.guard, one.guard))
        lines.append(
            f'<p style="margin: 0 0 6px 0"><span style="color: {colour}">{sign}</span> <b>{WORDS[one.level]}</b> · '
            f"{title}<br>{html.escape(one.sentence)}</p>"
        )
    return "".join(lines)


def map_layers(result: CheckResult, chosen: Chosen) -> list[LayerTuple]:
    """Maps as layers that lie on the plane they tell of."""
    raw = chosen.raw
    axes = raw.axes().replace("S", "")
    where = dict(zip("TCZ", result.plane, strict=True))
    offset = [0.0 if axis in "YX" else float(where.get(axis, 0)) for axis in axes]
    place = raw.geometry.at(offset).as_kwargs()
    shape = tuple(1 if axis not in "YX" else -1 for axis in axes)
    sizes = iter(result.maps[0].pixels.shape) if result.maps else iter(())
    shape = tuple(n if n == 1 else next(sizes) for n in shape)
    after = chosen.enhanced[0].name
    return [_layer(one, shape, f"{after}: {one.name}", result.record, place) for one in result.maps]


def _layer(
    one: GuardMap, shape: tuple[int, ...], name: str, record: Mapping[str, Any], place: dict[str, Any]
) -> LayerTuple:
    kept = {METADATA_KEY: {**record, "shows": one.name, "meaning": one.meaning}}
    common = {"name": name, "metadata": kept, **place}
    if one.is_labels:
        look = {"opacity": 0.6, "colormap": _colours()}
        return one.pixels.reshape(shape).astype(np.uint8), {**common, **look}, "labels"
    is_signed = bool(np.nanmin(one.pixels) < 0)
    look = {
        "colormap": "PiYG" if is_signed else "inferno", "rgb": False, "blending": "translucent",
        "contrast_limits": (-one.limit if is_signed else 0.0, one.limit), "visible": False,
    }  # fmt: skip
    return one.pixels.reshape(shape), {**common, **look}, "image"


def _colours() -> Any:
    from napari.utils.colormaps import DirectLabelColormap

    known: dict[int | None, str] = {None: "#00000000", 0: "#00000000", **_COLOURS}
    return DirectLabelColormap(color_dict=known)


class TrustTab(MeasureTab):
    """Checks the first layer after; the panel hands in the layers themselves, for their records."""

    title = "Trust"
    run_text = "Check this result"
    run_tip = (
        "Is it true? Look for structure in the difference and for objects that only one has, and run the model again."
    )

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._layers: list[Any] = []
        self.reruns = QCheckBox("Run the model again (12 times)")
        self.reruns.setChecked(True)
        self.reruns.setToolTip(
            "On eight turned and flipped copies, and on halves of the image: a result that is true stays the same. "
            "The middle 1024 px of the plane in view are used."
        )
        self.maps = QCheckBox("Add maps as layers")
        self.maps.setToolTip("Residual, objects that only one picture has, spread and disagreement, one layer each.")
        self.report = QLabel(
            "Tick one image after, then press Check this result. Each guard says Fine, Look or Doubt, and why."
        )
        self.report.setWordWrap(True)
        self.report.setTextFormat(Qt.TextFormat.RichText)
        self.report.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.report.setAccessibleName("What the guards say")
        self.column.addWidget(self.reruns)
        self.column.addWidget(self.maps)
        self.column.addWidget(self.report)
        self.column.addStretch(1)

    def set_layers(self, layers: list[Any]) -> None:
        """The layers that are chosen, the one before first."""
        self._layers = layers

    def problem(self, chosen: Chosen) -> str:
        """One image after is needed, of the same size."""
        if not chosen.enhanced:
            return "Tick the result that shall be checked."
        if len(chosen.enhanced) > 1:
            return "Tick one result only: they are checked one by one."
        return ""

    def job(self, chosen: Chosen) -> TabJob:
        """Check the plane in view."""
        before, after = (
            type(image)(name=image.name, image=image.image, axes=image.axes, at=frozen.plane_at(image.axes))
            for frozen, image in ((each, chosen.measured(each)) for each in chosen.images)
        )
        record = self._layers[1].metadata.get(METADATA_KEY)
        request = CheckRequest(image=before, result=after, record=record, runs_model=self.reruns.isChecked())
        return TabJob(f"Check of {after.name}", partial(_check, request), partial(self._show, chosen))

    def _show(self, chosen: Chosen, result: CheckResult) -> str:
        self.report.setText(findings_html(result.findings))
        if self.maps.isChecked() and result.maps:
            self.layers_made.emit(map_layers(result, chosen))
        cancelled = "" if result.is_complete else "Cancelled; what was found until then is shown. "
        return f"{cancelled}{WORDS[worst(result.findings)]}: {_SUMMARY[worst(result.findings)]}"


def _check(request: CheckRequest, on_progress: Any, is_cancelled: Any) -> CheckResult:
    return check(request, on_progress=on_progress, is_cancelled=is_cancelled)
