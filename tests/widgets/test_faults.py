"""Faults of the list in docs/faults.md that belong to no other file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dask.array as da
import numpy as np
import pytest
from napari.components import ViewerModel

from napari_cellenhance.widgets import _worker
from napari_cellenhance.widgets._worker import Outcome, start_job

MakePanel = Callable[[Any], Any]


def run(qtbot: Any, panel: Any) -> str:
    """Press Run, wait, read the message."""
    panel.filters.choose("gamma")
    panel.run()
    qtbot.waitUntil(lambda: panel._job is None, timeout=30_000)
    return str(panel.foot.message.text())


def test_a_lazy_image_that_fails_midway_is_told_with_its_reason(make_panel: MakePanel, qtbot: Any) -> None:
    is_gone = True

    def read(block: np.ndarray, block_info: Any = None) -> np.ndarray:
        if is_gone and block_info and block_info[0]["chunk-location"][0] == 2:
            raise OSError("the server went away")
        return block

    planes = np.random.default_rng(0).random((4, 32, 32), np.float32)
    lazy = da.from_array(planes, chunks=(1, 32, 32)).map_blocks(read, dtype=np.float32)
    viewer = ViewerModel()
    viewer.add_image(lazy, name="lazy", axis_labels=("z", "y", "x"), contrast_limits=(0, 1))
    panel = make_panel(viewer)
    assert "the server went away" in run(qtbot, panel)
    assert [layer.name for layer in viewer.layers] == ["lazy"]
    is_gone = False
    run(qtbot, panel)
    assert viewer.layers[-1].data.shape == planes.shape, "the next run works"


def test_a_mirrored_layer_has_a_mirrored_result(make_panel: MakePanel, qtbot: Any) -> None:
    viewer = ViewerModel()
    image = np.random.default_rng(0).random((24, 32), np.float32)
    source = viewer.add_image(image, name="mirrored", scale=(-0.5, 2.0), translate=(3, -7))
    run(qtbot, make_panel(viewer))
    result = viewer.layers[-1]
    assert result is not source
    for corner in ((0, 0), (5, 9), (23, 31)):
        np.testing.assert_allclose(result.data_to_world(corner), source.data_to_world(corner))


def test_linked_and_hidden_layers_stay_as_they_are(make_panel: MakePanel, qtbot: Any) -> None:
    viewer = ViewerModel()
    pixels = np.random.default_rng(0).random((2, 24, 32), np.float32)
    source, other = (viewer.add_image(plane, name=name) for plane, name in zip(pixels, "ab", strict=True))
    viewer.layers.link_layers([source, other], ("opacity",))
    other.visible = False
    panel = make_panel(viewer)
    panel.layers.choose(source)
    run(qtbot, panel)
    assert len(viewer.layers) == 3 and not other.visible
    viewer.layers[-1].opacity = 0.3
    assert source.opacity == 1.0, "the result is linked to nothing"
    source.opacity = 0.5
    assert other.opacity == 0.5, "what was linked still is"
    np.testing.assert_array_equal(source.data, pixels[0])


@pytest.mark.filterwarnings("default")
def test_a_storm_of_warnings_in_the_thread_is_harmless(qtbot: Any) -> None:
    outcomes: list[Outcome] = []

    def work(on_progress: Any, is_cancelled: Any) -> float:
        with np.errstate(all="warn"):
            for _ in range(500):
                np.log(np.array([-1.0])) / np.array([0.0])
        return 7.0

    start_job("Enhance cells", work, on_progress=lambda _: None, on_ended=outcomes.append)
    qtbot.waitUntil(lambda: bool(outcomes), timeout=30_000)
    assert outcomes == [Outcome(value=7.0)]
    assert not _worker.is_busy()
