"""The Segment section with models of other methods than AEP: what it offers follows the model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from napari.components import ViewerModel

from napari_cellenhance.core.models.voidseg import VoidSegNetwork
from napari_cellenhance.widgets._layers import snapshot
from napari_cellenhance.widgets._teach_segment import SegmentPart
from napari_cellenhance.widgets._teach_settings import TeachSettings
from napari_cellenhance.workflows.segment_model import list_segmenters
from napari_cellenhance.zoo.weights import save_user_model

SMALL: dict[str, Any] = {"depth": 1, "width": 4}


@pytest.fixture
def models() -> tuple[str, str]:
    """A baseline and a sequential model of VoidSeg."""
    torch.manual_seed(1)
    for name, denoiser in (("plain", None), ("after", SMALL)):
        module = VoidSegNetwork(denoiser=denoiser, **SMALL)
        card = {
            "id": name, "title": name, "summary": "For tests.", "version": "1.0.0", "recipe": "voidseg",
            "architecture": module.architecture, "license": "BSD-3-Clause", "threshold": 0.4,
            "normalization": {"name": "percentile", "parameters": {"lo": 0.1, "hi": 99.9, "clip": False}},
            "strength": {"minimum": 0.0, "default": 1.0, "maximum": 1.0},
            "classes": [{"value": v, "name": n} for v, n in ((1, "ground"), (2, "cell"), (3, "border"))],
        }  # fmt: skip
        save_user_model(module.state_dict(), card)
    return "plain", "after"


@pytest.fixture
def part(models: tuple[str, str], qtbot: Any) -> SegmentPart:
    viewer = ViewerModel()
    viewer.add_image(np.arange(64, dtype=np.uint16).reshape(8, 8), name="cells")
    widget = SegmentPart(viewer, lambda layer: None)
    qtbot.addWidget(widget)
    return widget


def _choose(part: SegmentPart, model_id: str) -> None:
    part.model.setCurrentIndex(part.model.findData(model_id))


def test_only_what_a_model_makes_can_be_ticked(part: SegmentPart) -> None:
    for box in part.boxes.values():
        box.setChecked(True)
    _choose(part, "plain")
    assert part.wanted() == {"classes", "instances", "probabilities"}
    _choose(part, "after")
    assert part.wanted() == {"classes", "instances", "probabilities", "denoised"}
    _choose(part, "aep-nuclei")
    assert "filters" in part.wanted() and "denoised" not in part.wanted()


def test_the_threshold_is_the_trained_one_unless_another_is_set(part: SegmentPart) -> None:
    _choose(part, "plain")
    view = snapshot(part.picker.layer(), part._viewer.dims)
    assert part.request(view).instances.threshold is None and part.request(view).instances.method == "auto"
    part.threshold.setValue(0.3)
    assert part.request(view).instances.threshold == pytest.approx(0.3)


def test_aep_starts_from_models_of_aep_only(models: tuple[str, str], qtbot: Any) -> None:
    settings = TeachSettings(list_segmenters())
    qtbot.addWidget(settings)
    assert settings.start.findData("aep-nuclei") >= 0
    assert all(settings.start.findData(name) < 0 for name in models)
