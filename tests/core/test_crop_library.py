"""A library of crops: classes, counts, moving, merging."""

from __future__ import annotations

import numpy as np
import pytest

from napari_cellenhance.core.crop_library import CropClass, CropLibrary, FoundObject, add, merge
from napari_cellenhance.core.crops import Background, ObjectCrop
from napari_cellenhance.core.errors import ImageError, ParameterError


def found(kind: CropClass, source: str = "a", reason: str = "", shape: tuple[int, ...] = (2, 2)) -> FoundObject:
    crop = ObjectCrop(pixels=np.ones(shape, np.float32), mask=np.ones(shape[:2], bool), source=source, box=(0, 0, 2, 2))
    return FoundObject(crop=crop, kind=kind, reason=reason)


def test_objects_are_counted_and_reasons_told() -> None:
    library = CropLibrary(
        objects=(found("target"), found("discarded", reason="small"), found("discarded", reason="border"),
                 found("discarded", reason="border")),
    )  # fmt: skip
    assert library.counts() == {"target": 1, "unwanted": 0, "discarded": 3}
    assert list(library.discarded_because().items()) == [("border", 2), ("small", 1)]
    assert len(library.crop_set().target) == 1


def test_an_object_is_moved_and_thrown_out() -> None:
    library = CropLibrary(objects=(found("target"), found("discarded", reason="small")))
    moved = library.moved([1], "unwanted").moved([0], "discarded")
    assert [(one.kind, one.reason) for one in moved.objects] == [
        ("discarded", "thrown out by hand"), ("unwanted", ""),
    ]  # fmt: skip
    assert library.counts()["target"] == 1  # the first one is unchanged
    with pytest.raises(ParameterError, match="no object 2"):
        library.moved([2], "target")


def test_libraries_are_merged() -> None:
    one = CropLibrary(objects=(found("target"),), white={"a": 10.0}, notes=("dim",))
    other = CropLibrary(objects=(found("unwanted", "b"),), white={"a": 12.0, "b": 5.0}, notes=("dim", "small"))
    both = merge([one, other])
    assert both.counts() == {"target": 1, "unwanted": 1, "discarded": 0}
    assert both.white == {"a": 12.0, "b": 5.0} and both.notes == ("dim", "small")


def test_grey_and_colour_do_not_mix() -> None:
    with pytest.raises(ImageError, match="cannot be used together"):
        CropLibrary(objects=(found("target"), found("unwanted", shape=(2, 2, 3))))


def test_an_unknown_class_is_refused() -> None:
    with pytest.raises(ParameterError, match="expected one of target, unwanted, discarded"):
        found("wanted")  # type: ignore[arg-type]


def test_grounds_of_two_images_and_of_other_sizes_stay_apart() -> None:
    def ground(source: str, side: int = 4) -> Background:
        return Background(pixels=np.ones((side, side), np.float32), mask=np.zeros((side, side), bool), source=source)

    both = add(
        CropLibrary(backgrounds=(ground("a"), ground("b"))), CropLibrary(backgrounds=(ground("a", 6), ground("c")))
    )
    assert [(one.source, one.pixels.shape) for one in both.backgrounds] == [
        ("a", (4, 4)), ("a", (6, 6)), ("b", (4, 4)), ("c", (4, 4)),
    ]  # fmt: skip
    again = add(CropLibrary(backgrounds=(ground("a"),)), CropLibrary(backgrounds=(ground("a"),)))
    assert len(again.backgrounds) == 1
