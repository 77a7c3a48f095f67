"""Painted labels: what the numbers mean, clear refusals, conversion from objects (METHODS 0.7, 5.3)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.painted import (
    IGNORED,
    MIN_CLASS_PX,
    PaintedImage,
    balanced_weights,
    check_values,
    count_painted,
    from_instances,
    painted_values,
    to_targets,
)

RAMP = np.linspace(0, 1, 600, dtype=np.float32).reshape(20, 30)


def _painted(**strokes: int) -> PaintedImage:
    """``v2=30`` paints 30 pixels with label 2."""
    labels = np.zeros(RAMP.shape, np.uint16)
    at = 0
    for name, n in strokes.items():
        labels.flat[at : at + n] = int(name[1:])
        at += n
    return PaintedImage(RAMP, labels, "cells")


# --- a painted image ------------------------------------------------------------------------


def test_both_arrays_are_copied() -> None:
    image, labels = RAMP.astype(np.float64), np.ones(RAMP.shape, np.int64)
    painted = PaintedImage(image, labels)
    image[:], labels[:] = 0.5, 7
    assert painted.labels.max() == 1 and painted.image.max() == 1.0
    assert painted.image.dtype == np.float32 and painted.labels.dtype == np.int32


def test_rounding_beyond_the_range_is_clipped() -> None:
    painted = PaintedImage(RAMP * 1.0005, np.zeros(RAMP.shape, np.uint8))
    assert painted.image.max() == 1.0


def test_painted_share() -> None:
    assert _painted(v1=60, v2=90).painted_share == 0.25


@pytest.mark.parametrize(
    ("image", "labels", "message"),
    [
        (np.zeros((20, 30, 3), np.uint8), np.zeros((20, 30), np.uint8), "colour image"),
        (np.zeros((5, 20, 30)), np.zeros((5, 20, 30), np.uint8), "one slice"),
        (np.zeros((0, 30)), np.zeros((0, 30), np.uint8), "expected a plane"),
        (np.full((20, 30), 0.4), np.zeros((20, 30), np.uint8), "constant"),
        (np.where(RAMP > 0.9, np.nan, RAMP), np.zeros((20, 30), np.uint8), "NaN"),
        (255 * RAMP, np.zeros((20, 30), np.uint8), "normalise it"),
        (RAMP - 0.5, np.zeros((20, 30), np.uint8), "normalise it"),
        (RAMP, np.zeros((30, 20), np.uint8), "same shape"),
        (RAMP, np.zeros((20, 30), np.float32), "whole numbers"),
        (RAMP, np.full((20, 30), -1), "negative"),
    ],
)
def test_what_cannot_be_learned_from_is_refused(image: Any, labels: Any, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        PaintedImage(image, labels, "cells")


# --- classes ----------------------------------------------------------------------------------


def test_classes_are_what_is_painted_over_all_images() -> None:
    assert painted_values([_painted(v1=40, v5=40), _painted(v2=40), _painted()]) == (1, 2, 5)


def test_two_classes_without_background_are_fine() -> None:
    assert painted_values([_painted(v2=40, v3=40)]) == (2, 3)


def test_a_class_may_be_painted_in_several_small_strokes() -> None:
    half = -(-MIN_CLASS_PX // 2)
    assert painted_values([_painted(v1=40, v2=half), _painted(v2=half)]) == (1, 2)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([_painted()], "nothing is painted"),
        ([], "nothing is painted"),
        ([_painted(v1=80)], r"only background \(label 1\)"),
        ([_painted(v3=80), _painted(v3=10)], "only label 3"),
        ([_painted(v1=80, v2=MIN_CLASS_PX - 1)], f"label 2 has only {MIN_CLASS_PX - 1} painted pixels"),
    ],
)
def test_too_little_paint_is_explained(images: list[PaintedImage], message: str) -> None:
    with pytest.raises(ImageError, match=message):
        painted_values(images)


def test_targets_number_the_classes_and_ignore_the_rest() -> None:
    labels = np.array([[0, 1, 2], [5, 0, 1]])
    np.testing.assert_array_equal(to_targets(labels, (1, 2, 5)), [[IGNORED, 0, 1], [2, IGNORED, 0]])
    assert to_targets(labels.astype(np.uint8), (1, 2, 5)).dtype == np.int64
    np.testing.assert_array_equal(to_targets(np.zeros((2, 2), np.int32), (1, 2)), np.full((2, 2), IGNORED))
    for unknown in (3, 9):
        with pytest.raises(ImageError, match=f"label {unknown} is painted"):
            to_targets(np.array([0, 1, unknown]), (1, 2, 5))


def test_counts_and_balanced_weights() -> None:
    counts = count_painted([_painted(v1=40, v2=10), _painted(v1=20)], (1, 2, 7))
    assert counts.tolist() == [60, 10, 0]
    weights = balanced_weights(counts)
    assert weights[0] * 60 == pytest.approx(weights[1] * 10) and weights[2] == 0
    assert (weights * counts).sum() / counts.sum() == pytest.approx(1.0)
    assert count_painted([], (1, 2)).tolist() == [0, 0]


@pytest.mark.parametrize("values", [(1,), (0, 1), (2, 1), (1, 1), ()])
def test_values_of_a_model_are_checked(values: tuple[int, ...]) -> None:
    with pytest.raises(ParameterError, match="label values"):
        check_values(values)


def test_good_values_pass() -> None:
    assert check_values(np.array([1, 4])) == (1, 4)


# --- objects -----------------------------------------------------------------------------------


def _two_objects() -> np.ndarray:
    """Two 5×4 objects side by side, the line of contact between columns 4 and 5 (METHODS 8.7)."""
    ids = np.zeros((12, 14), np.int64)
    ids[3:8, 1:5], ids[3:8, 5:9] = 3, 8
    return ids


def test_complete_objects_become_background_and_object() -> None:
    classes = from_instances(_two_objects())
    np.testing.assert_array_equal(classes, np.where(_two_objects() > 0, 2, 1))
    assert classes.dtype == np.int32


def test_touching_objects_lose_the_line_of_contact_on_both_sides() -> None:
    classes = from_instances(_two_objects(), has_border=True)
    assert (classes == 2).sum() == 30 and (classes == 3).sum() == 10 + 26
    assert (classes[3:8, 4:6] == 3).all()
    assert classes[2, 0] == classes[8, 9] == 1, "a corner does not touch"
    assert (classes[2, 1:9] == 3).all() and (classes[3:8, 9] == 3).all()


def test_an_isolated_object_keeps_all_its_pixels() -> None:
    ids = np.zeros((9, 9), np.uint16)
    ids[3:6, 3:6] = 4
    classes = from_instances(ids, has_border=True)
    assert (classes[3:6, 3:6] == 2).all() and (classes == 3).sum() == 12


def test_painted_objects_keep_what_is_not_painted() -> None:
    ids = np.array([[0, 0, 5, 5, 1, 1, 0]])
    np.testing.assert_array_equal(from_instances(ids, is_complete=False), [[0, 0, 2, 2, 1, 1, 0]])
    np.testing.assert_array_equal(from_instances(ids, is_complete=False, has_border=True), [[0, 0, 2, 2, 3, 1, 0]])


def test_a_shell_of_background_can_be_assumed() -> None:
    ids = np.array([[0, 0, 5, 5, 1, 1, 0]])
    shell = from_instances(ids, is_complete=False, is_shell_background=True)
    np.testing.assert_array_equal(shell, [[0, 1, 2, 2, 1, 1, 0]])
    both = from_instances(ids, is_complete=False, has_border=True, is_shell_background=True)
    np.testing.assert_array_equal(both, [[0, 3, 2, 2, 3, 1, 0]])


def test_the_input_is_left_alone() -> None:
    ids = _two_objects()
    from_instances(ids, has_border=True)
    np.testing.assert_array_equal(ids, _two_objects())


def test_masks_count_as_one_object() -> None:
    assert from_instances(np.array([[False, True]])).tolist() == [[1, 2]]


@pytest.mark.parametrize("bad", [np.full((2, 2), -1), np.zeros((2, 2), np.float32), np.zeros((2, 2, 2), np.uint8)])
def test_objects_are_checked(bad: np.ndarray) -> None:
    with pytest.raises(ImageError):
        from_instances(bad)
