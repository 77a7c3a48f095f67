"""The combo boxes of layers: one behaviour, with and without an entry for none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.utils._proxies import PublicOnlyProxy

from napari_cellenhance.widgets import _labels_picker, _layer_picker
from napari_cellenhance.widgets._labels_picker import LabelsPicker
from napari_cellenhance.widgets._layer_picker import LayerPicker
from napari_cellenhance.widgets._viewer_combo import ViewerCombo

Make = Callable[[Any], ViewerCombo]


def images(viewer: Any) -> ViewerCombo:
    return LayerPicker(viewer)


def labels(viewer: Any) -> ViewerCombo:
    return LabelsPicker(viewer, "None", "Objects", "Some tip")


def add(viewer: ViewerModel, make: Make, name: str) -> Any:
    pixels = np.zeros((8, 8), np.uint8)
    return viewer.add_image(pixels, name=name) if make is images else viewer.add_labels(pixels, name=name)


def texts(combo: ViewerCombo) -> list[str]:
    return [combo.itemText(row) for row in range(combo.count())]


def test_what_they_share_is_written_once() -> None:
    own = {"__module__", "__doc__", "__init__", "__qualname__", "__firstlineno__", "__static_attributes__"}
    own.add("staticMetaObject")  # PySide6 gives every class its own
    for module, kind in ((_layer_picker, LayerPicker), (_labels_picker, LabelsPicker)):
        assert issubclass(kind, ViewerCombo) and set(vars(kind)) <= own, module


@pytest.mark.parametrize("make", [images, labels])
def test_layers_are_followed(qtbot: Any, make: Make) -> None:
    viewer = ViewerModel()
    combo = make(viewer)
    qtbot.addWidget(combo)
    first = [] if make is images else ["None"]
    assert texts(combo) == first and combo.layer() is None
    a, b = add(viewer, make, "a"), add(viewer, make, "b")
    assert texts(combo) == [*first, "b", "a"]
    combo.choose(a)
    a.name = "renamed"
    viewer.layers.move(0, 2)
    assert texts(combo) == [*first, "renamed", "b"] and combo.layer() == a
    viewer.layers.remove(a)
    assert combo.layer() == (b if make is images else None)
    combo.release()
    viewer.layers.clear()


def test_a_choice_is_told_once_even_if_layers_come_behind_a_new_proxy_each_time(qtbot: Any) -> None:
    viewer = ViewerModel()
    layer = add(viewer, images, "a")
    combo = ViewerCombo(viewer, lambda v: [PublicOnlyProxy(each) for each in v.layers], name="n", tip="t", first="None")
    qtbot.addWidget(combo)
    told: list[Any] = []
    combo.picked.connect(told.append)
    combo.choose(layer)
    add(viewer, images, "b")
    layer.name = "renamed"
    assert len(told) == 1 and combo.layer() == layer and combo.currentText() == "renamed"


def test_the_entry_for_none_is_renamed_and_chosen(qtbot: Any) -> None:
    viewer = ViewerModel()
    combo = labels(viewer)
    qtbot.addWidget(combo)
    combo.choose(add(viewer, labels, "a"))
    combo.set_first("Round blobs")
    add(viewer, labels, "b")
    assert texts(combo)[0] == "Round blobs" and combo.layer().name == "a"
    combo.choose(None)
    assert combo.layer() is None
