"""What is closed or removed is let go: no callback of ours stays on the viewer, no panel and no layer in memory."""

from __future__ import annotations

import gc
import importlib
import weakref
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.utils.events import EmitterGroup
from npe2 import PluginManifest
from qtpy import API_NAME

from napari_cellenhance.widgets import _worker
from napari_cellenhance.widgets._checked_layers import CheckedLayers
from napari_cellenhance.widgets._viewer_combo import ViewerCombo

MANIFEST = Path(__file__).parents[2] / "src" / "napari_cellenhance" / "napari.yaml"
THREADS_END_MS = 60_000
"""Only ends what would hang; on a busy machine a thread may take long to end."""


def _docks() -> list[str]:
    """``module:class`` of every dock of the manifest."""
    found = PluginManifest.from_file(MANIFEST).contributions
    names = {command.id: str(command.python_name) for command in found.commands or ()}
    return [names[dock.command] for dock in found.widgets or ()]


def _make(name: str, viewer: Any) -> Any:
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)(viewer)


def _callbacks(viewer: Any) -> Iterator[tuple[str, int]]:
    """How many listen to each event of the viewer, and of its layers."""
    parts = [viewer, viewer.layers, viewer.layers.selection, viewer.dims, viewer.scene, viewer.scene.camera]
    for number, part in enumerate([*parts, *viewer.layers]):
        if isinstance(part.events, EmitterGroup):
            for event, emitter in part.events.emitters.items():
                yield f"{number} {type(part).__name__}.{event}", len(emitter.callbacks)


def _choose(panel: Any, layer: Any) -> None:
    """Choose a layer everywhere in a panel."""
    for combo in panel.findChildren(ViewerCombo):
        combo.choose(layer)
    for checked in panel.findChildren(CheckedLayers):
        checked.check(layer)


@pytest.fixture
def viewer() -> Any:
    viewer = ViewerModel()
    rng = np.random.default_rng(0)
    viewer.add_labels((rng.random((32, 32)) > 0.5).astype(np.int32), name="paint")
    viewer.add_image(rng.random((4, 32, 32)).astype(np.float32), name="stack")
    viewer.add_image(rng.random((32, 32)), name="plane")
    return viewer


@pytest.mark.parametrize("dock", _docks())
def test_a_closed_dock_lets_go_of_the_viewer_and_is_freed(dock: str, viewer: Any, qtbot: Any) -> None:
    before = dict(_callbacks(viewer))
    panel = _make(dock, viewer)
    panel.show()
    for layer in viewer.layers:
        _choose(panel, layer)
        qtbot.wait(50)
    assert dict(_callbacks(viewer)) != before or "models" in dock, "the test looks at a panel that listens"
    panel.shut_down()
    panel.close()
    assert dict(_callbacks(viewer)) == before
    ref = weakref.ref(panel)
    if API_NAME == "PySide6":  # there, connections to its methods keep a panel until Qt deletes it
        panel.deleteLater()
    del panel
    qtbot.waitUntil(partial(_are_freed, [ref]), timeout=THREADS_END_MS)


@pytest.mark.parametrize("dock", _docks())
def test_a_removed_layer_is_freed_while_the_dock_is_open(dock: str, viewer: Any, qtbot: Any) -> None:
    panel = _make(dock, viewer)
    qtbot.addWidget(panel)
    panel.show()
    layer = viewer.add_image(np.random.default_rng(1).random((24, 24)), name="goes away")
    _choose(panel, layer)
    qtbot.wait(50)
    ref = weakref.ref(layer)
    viewer.layers.remove(layer)
    del layer
    viewer.layers.selection.active = viewer.layers[0]  # napari's own selection remembers what was selected last
    qtbot.waitUntil(partial(_are_freed, [ref]), timeout=THREADS_END_MS)
    panel.shut_down()


def test_a_job_that_ended_is_freed_with_all_it_was_given(qtbot: Any) -> None:
    given = np.zeros(3)
    ends: list[Any] = []
    job = _worker.start_job(
        "test",
        partial(_ignore, given),
        on_progress=partial(_ignore, given),
        on_ended=lambda told: ends.append(told.value),
    )
    held = job._worker  # by napari, in its list of tasks, until its window closes
    refs = weakref.ref(job), weakref.ref(given)
    del job, given
    qtbot.waitUntil(lambda: len(ends) == 1, timeout=THREADS_END_MS)
    qtbot.waitUntil(partial(_are_freed, refs), timeout=THREADS_END_MS)
    assert held is not None


def test_the_layer_of_a_run_is_freed_when_it_is_removed(
    make_panel: Callable[[Any], Any], fake_run: Any, viewer: Any, qtbot: Any
) -> None:
    panel = make_panel(viewer)
    layer = viewer.add_image(np.random.default_rng(1).random((24, 24)), name="goes away")
    panel.layers.choose(layer)
    n_before = len(viewer.layers)
    panel.run()
    qtbot.waitUntil(lambda: len(viewer.layers) > n_before, timeout=THREADS_END_MS)
    made = [viewer.layers[number] for number in range(n_before, len(viewer.layers))]
    refs = [weakref.ref(one) for one in (layer, *made)]
    for one in (layer, *made):
        viewer.layers.remove(one)
    del layer, made, one
    fake_run.requests.clear()
    viewer.layers.selection.active = viewer.layers[0]
    qtbot.waitUntil(partial(_are_freed, refs), timeout=THREADS_END_MS)


def _ignore(*_: Any) -> None:
    """Do nothing with what is given."""


def _are_freed(refs: Iterable[weakref.ref[Any]]) -> bool:
    gc.collect()
    return all(ref() is None for ref in refs)
