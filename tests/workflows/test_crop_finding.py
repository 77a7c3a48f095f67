"""Objects of one layer before they go into a library: where they are, paint with a meaning, sentences, stamps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_cellenhance.core.crop_library import CropLibrary
from napari_cellenhance.core.crop_options import CutOptions, KeepOptions, SegmentOptions
from napari_cellenhance.core.focus import FocusOptions, FocusThresholds
from napari_cellenhance.io.crop_folders import RECORD, write_crops
from napari_cellenhance.workflows import crop_finding
from napari_cellenhance.workflows.crop_files import folder_stamp, read_steps
from napari_cellenhance.workflows.crop_finding import (
    FoundCrops,
    advice,
    as_paint,
    counted,
    find,
    found_sentence,
    left_out,
    resorted,
    values_of,
)
from napari_cellenhance.workflows.crops import CropLayer, CropOptions, CropRequest, place_of


def stack(*leading: int) -> np.ndarray:
    """Two squares on each plane."""
    image = np.zeros((*leading, 32, 40), np.uint8)
    image[..., 4:14, 5:15] = 200
    image[..., 16:28, 20:32] = 150
    return image


def found_in(
    image: Any, axes: str, at: Any = None, focus: FocusOptions | None = None, sigma_px: float = 1.0, **keep: Any
) -> FoundCrops:
    cut = CutOptions(keep=KeepOptions(**keep), focus=focus)
    layer = CropLayer(name="cells", image=image, axes=axes, at=at)
    options = CropOptions(way="segment", cut=cut, segment=SegmentOptions(sigma_px=sigma_px))
    return find(CropRequest(layers=(layer,), options=options))


def test_numbers_lie_where_objects_are() -> None:
    found = found_in(stack(2, 3), "TZYX")
    assert found.axes == "TZYX" and found.numbers is not None and found.numbers.shape == (2, 3, 32, 40)
    assert sorted(np.unique(found.numbers)) == list(range(13))
    for number, one in enumerate(found.collection.objects, 1):
        z = place_of(one.crop.source)[1]
        y0, x0, y1, x1 = one.crop.box
        assert (found.numbers[one.crop.frame, z, y0:y1, x0:x1][one.crop.mask] == number).all()


def test_channels_and_odd_orders_of_axes() -> None:
    found = found_in(np.moveaxis(stack(3), 0, -1), "YXC")
    assert found.axes == "YX" and found.numbers is not None and found.numbers.shape == (32, 40)


def test_only_one_plane() -> None:
    found = found_in(stack(2, 3), "TZYX", at=(1, 2))
    assert {(one.crop.frame, one.crop.source) for one in found.collection.objects} == {(1, "cells, z 2")}
    assert found.numbers is not None and found.numbers.shape == (1, 1, 32, 40) and found.numbers.max() == 2


def test_too_many_pixels_are_not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crop_finding, "MAX_NUMBERED_PX", 32 * 40 - 1)
    found = found_in(stack(), "YX")
    assert found.numbers is None and len(found.collection.objects) == 2


def test_another_sorting_keeps_the_objects() -> None:
    found = found_in(stack(), "YX", focus=FocusOptions())
    assert found.result.thresholds is not None
    again = resorted(found, FocusThresholds(1e3, 1e3))
    assert again.collection.counts()["unwanted"] == 2 and again.numbers is found.numbers


def test_what_was_found_is_said() -> None:
    assert found_sentence(found_in(stack(), "YX"), "cells") == "Found: 2 wanted, 0 not wanted, 0 thrown out."
    flat = found_in(np.full((32, 40), 7, np.uint8), "YX", focus=FocusOptions())
    assert flat.is_flat and "All pixels of “cells” are equal" in found_sentence(flat, "cells")
    dots = np.zeros((32, 40), np.uint8)
    dots[::8, ::8] = 255
    nothing = found_in(dots, "YX", focus=FocusOptions(), sigma_px=0.0)
    assert not nothing.collection.objects and "No object was found in “cells”" in found_sentence(nothing, "cells")
    small = found_in(stack(), "YX", min_area_px=5000)
    assert found_sentence(small, "cells").startswith("All 2 objects were thrown out (too small: 2)")


def test_a_library_says_what_it_lacks() -> None:
    library = found_in(stack(), "YX").collection
    assert "empty" in advice(CropLibrary())
    assert "One class only" in advice(library)
    assert "Nothing is wanted yet" in advice(library.moved([0, 1], "unwanted"))
    both = library.moved([0], "unwanted")
    assert advice(both) == "" and counted(both) == "1 wanted, 1 not wanted, 0 thrown out"
    assert "No background" in advice(CropLibrary(objects=both.objects))
    assert left_out(both) == "" and left_out(library.moved([0], "discarded")) == "thrown out by hand: 1"


def test_paint_gets_a_meaning() -> None:
    painted = np.array([[0, 1, 5], [7, 9, 5]])
    assert values_of(painted) == (1, 5, 7, 9)
    meant = as_paint(painted, {5: "target", 7: "unwanted", 9: "background"})
    assert meant.tolist() == [[0, 0, 2], [3, 1, 2]]
    assert values_of(np.zeros((3, 3), int)) == () and len(values_of(np.arange(400).reshape(20, 20))) == 13
    assert values_of(np.array([[0, 10**9, -3]])) == (10**9,)


def test_steps_and_stamps_of_a_folder(tmp_path: Path) -> None:
    found = found_in(stack(), "YX")
    folder = write_crops(tmp_path / "crops", found.collection, found.result.record)
    (step,) = read_steps(folder)
    assert step["images"] == ["cells"] and "white" not in step
    stamp = folder_stamp(folder)
    assert folder_stamp(folder) == stamp
    next((folder / "target").iterdir()).rename(folder / "unwanted" / "moved.tif")
    assert folder_stamp(folder) != stamp
    (folder / RECORD).write_text(json.dumps({"steps": [step, step], "white": {}}))
    assert read_steps(folder) == [step, step]
    (folder / RECORD).write_text("{")
    assert read_steps(folder) == [] and read_steps(tmp_path) == []
