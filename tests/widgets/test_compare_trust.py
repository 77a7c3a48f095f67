"""Tab “Trust” of the Compare dock: words and sentences of the guards, maps as layers, the way there from a result."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from napari_cellenhance.widgets._compare_trust import findings_html
from napari_cellenhance.widgets.compare import ComparePanel
from napari_cellenhance.workflows.input_guards import Finding

PLACES = ((20, 24), (24, 70), (66, 30), (70, 74))


def _clean(places: Any = PLACES) -> NDArray[np.float32]:
    y, x = np.mgrid[:96, :96]
    field = np.any([np.hypot(y - cy, x - cx) < 9 for cy, cx in places], axis=0)
    return (50 + 200 * gaussian_filter(field.astype(float), 1)).astype(np.float32)


@pytest.fixture
def panel(qtbot: Any) -> Any:
    viewer = ViewerModel()
    noisy = np.random.default_rng(0).poisson(_clean()).astype(np.uint16)
    viewer.add_image(np.stack([noisy, noisy]), name="cells", scale=(1, 0.5, 0.5), translate=(0, 10, 20))
    record = {"step": "denoise", "method": "Noise2Void", "model": "gone", "source": {"name": "cells"}}
    made = np.stack([_clean(), _clean(PLACES[1:])])
    viewer.add_image(
        made, name="cells denoised", scale=(1, 0.5, 0.5), translate=(0, 10, 20), metadata={"cellenhance": record}
    )
    panel = ComparePanel(viewer)
    qtbot.addWidget(panel)
    panel.trust.reruns.setChecked(False)
    panel.look_at_trust(viewer.layers["cells denoised"])
    return panel


def _run(panel: Any, qtbot: Any) -> str:
    panel.foot.run.click()
    qtbot.waitUntil(lambda: panel._job is None, timeout=20000)
    return str(panel.trust.report.text())


def test_the_plane_in_view_is_checked_and_told_in_words(panel: Any, qtbot: Any) -> None:
    assert panel.foot.run.text() == "Check this result" and panel.foot.run.isEnabled()
    panel._viewer.dims.set_current_step(0, 0)
    assert "<b>Fine</b> · Difference" in _run(panel, qtbot) and "Nothing suspicious" in panel.foot.message.text()
    panel._viewer.dims.set_current_step(0, 1)
    text = _run(panel, qtbot)
    assert "<b>Doubt</b> · Objects" in text and "not in the result" in text
    assert panel.foot.message.text().startswith("Doubt:")


def test_maps_lie_on_the_plane_that_they_tell_of(panel: Any, qtbot: Any) -> None:
    panel._viewer.dims.set_current_step(0, 1)
    panel.trust.maps.setChecked(True)
    _run(panel, qtbot)
    names = [layer.name for layer in panel._viewer.layers]
    assert panel.foot.run.isEnabled(), "maps are no results to check"
    assert "cells denoised: residual" in names and "cells denoised: structure in the residual" in names
    places = panel._viewer.layers["cells denoised: objects in one only"]
    assert places.data.shape == (1, 96, 96) and places.data[0, 20, 24] == 1
    assert places.get_color(1).tolist() != places.get_color(2).tolist(), "what is gone, and what is new"
    assert max(places.get_color(1)[:3]) > 0.9, "bright enough to be seen on a dark image"
    assert places.translate.tolist() == [1, 10, 20] and places.scale.tolist() == [1, 0.5, 0.5]
    assert panel._viewer.layers["cells denoised: residual"].contrast_limits[0] < 0
    assert (
        "image − fitted result" in panel._viewer.layers["cells denoised: residual"].metadata["cellenhance"]["meaning"]
    )


def test_one_result_at_a_time(panel: Any) -> None:
    viewer = panel._viewer
    viewer.add_image(np.stack([_clean()] * 2), name="other", scale=(1, 0.5, 0.5), translate=(0, 10, 20))
    panel.form.after.tick(viewer.layers["other"])
    assert not panel.foot.run.isEnabled() and "one result only" in panel.foot.message.text()
    panel.form.choose(viewer.layers["cells denoised"])
    assert panel.foot.run.isEnabled()


def test_the_gravest_comes_first_with_a_sign_and_a_word() -> None:
    text = findings_html(
        (
            Finding(guard="input", level="fine", sentence="a < b"),
            Finding(guard="residual", level="doubt", sentence="c"),
            Finding(guard="spread", level="look", sentence="d"),
        )
    )
    assert text.index("■") < text.index("▲") < text.index("●") and "a &lt; b" in text
    assert text.index("Doubt") < text.index("Look") < text.index("Fine")
