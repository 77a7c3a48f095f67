"""Three classes: borders of touching objects, the loss, objects at a threshold and its choice, nested subsets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.folds import nested_subsets
from napari_cellenhance.core.losses.three_classes import three_class_loss
from napari_cellenhance.core.painted import IGNORED, from_instances
from napari_cellenhance.core.three_classes import (
    THRESHOLDS,
    ObjectImage,
    ThresholdSearch,
    average_precision,
    best_threshold,
    objects_of,
)


def _two_touching() -> np.ndarray:
    """Two objects of 5×4 px side by side, on 9×14 px."""
    labels = np.zeros((9, 14), np.int32)
    labels[2:7, 3:7], labels[2:7, 7:11] = 1, 2
    return labels


def _probabilities(inside: np.ndarray, border: np.ndarray | None = None) -> np.ndarray:
    edge = np.zeros_like(inside) if border is None else border
    return np.stack([1 - inside - edge, inside, edge]).astype(np.float32)


# --- classes --------------------------------------------------------------------------------


def test_touching_objects_lose_the_line_of_contact_on_both_sides() -> None:
    """T-G1: of 40 pixels of two 5×4 objects 30 stay inside; the border has 10 of them and 26 of the ground."""
    labels = _two_touching()
    classes = from_instances(labels, has_border=True)
    assert (classes == 2).sum() == 30 and (classes == 3).sum() == 36
    assert classes[1, 2] == 1, "a corner does not touch"
    assert (classes[2:7, 6:8] == 3).all() and (classes[2:7, 3:6] == 2).all()


def test_an_isolated_object_keeps_its_pixels() -> None:
    """T-G1: only ground around it becomes border."""
    labels = np.zeros((8, 8), np.int32)
    labels[2:6, 2:6] = 7
    classes = from_instances(labels, has_border=True)
    assert ((classes == 2) == (labels == 7)).all() and (classes == 3).sum() == 16


def test_borders_lie_beside_paint_only() -> None:
    objects = np.zeros((6, 8), np.int32)
    objects[2:4, 2:5] = 2
    image = np.linspace(0, 1, 48, dtype=np.float32).reshape(6, 8)
    assert set(np.unique(ObjectImage(image, objects).labels)) == {0, 2}, "what is not painted makes no border"
    with_shell = ObjectImage(image, objects, is_shell_background=True).labels
    assert (with_shell == 3).sum() == 10 and (with_shell == 2).sum() == 6 and (with_shell == 0).sum() == 32


def test_painted_classes_become_objects() -> None:
    labels = np.array([[1, 1, 2, 2, 3, 2, 0]], np.int32)
    image = np.linspace(0, 1, 7, dtype=np.float32)[None]
    painted = ObjectImage.of_classes(image, labels)
    assert painted.objects.tolist() == [[1, 1, 2, 2, 0, 3, 0]]
    assert painted.labels.tolist() == [[1, 3, 2, 2, 3, 2, 0]], "a border that was painted, and one beside an object"
    assert painted.plain.tolist() == [[1, 1, 2, 2, 1, 2, 0]]
    assert painted.only(np.arange(7)[None] != 4).labels.tolist() == [[1, 3, 2, 2, 0, 2, 0]]
    assert ObjectImage.complete(image, np.array([[0, 0, 4, 4, 0, 9, 9]])).objects.tolist() == [[1, 1, 5, 5, 1, 10, 10]]


def test_less_paint_and_another_picture() -> None:
    image = np.linspace(0, 1, 6, dtype=np.float32)[None]
    one = ObjectImage(image, np.array([[1, 2, 2, 1, 3, 3]]), "name")
    assert one.only(np.arange(6)[None] < 3).objects.tolist() == [[1, 2, 2, 0, 0, 0]]
    other = one.with_image(image[:, ::-1])
    assert other.name == "name" and other.image[0, 0] == 1 and (other.objects == one.objects).all()


# --- loss -----------------------------------------------------------------------------------


def _toy() -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(4)
    logits = torch.from_numpy(rng.normal(0, 1, (2, 3, 3, 3)).astype(np.float32)).requires_grad_()
    target = torch.from_numpy(rng.integers(-1, 3, (2, 3, 3)))
    target[0, 0, 0], target[0, 0, 1] = IGNORED, 2
    return logits, target


@pytest.mark.parametrize("divide_by", ["painted", "all"])
def test_loss_is_the_sum_of_the_definition(divide_by: Any) -> None:
    """T-G2: (1 / M) Σ u_p k_y CE_p with k = (1, 1, 5), computed pixel by pixel."""
    logits, target = _toy()
    found = three_class_loss(logits, target, divide_by=divide_by)
    values, wanted = logits.detach().double().numpy(), target.numpy()
    total, n_painted = 0.0, 0
    for n, y, x in np.ndindex(wanted.shape):
        if (c := wanted[n, y, x]) != IGNORED:
            o = values[n, :, y, x]
            total += (1, 1, 5)[c] * (np.log(np.exp(o).sum()) - o[c])
            n_painted += 1
    assert float(found.detach()) == pytest.approx(
        total / (n_painted if divide_by == "painted" else wanted.size), rel=1e-6
    )


def test_pixels_without_paint_have_no_gradient() -> None:
    """T-G2: exactly zero where nothing is painted, and not zero elsewhere."""
    logits, target = _toy()
    three_class_loss(logits, target).backward()
    assert logits.grad is not None
    moved = logits.grad.abs().sum(dim=1)
    assert (moved[target == IGNORED] == 0).all() and (moved[target != IGNORED] > 0).all()


def test_no_paint_at_all_is_no_loss() -> None:
    logits, target = _toy()
    loss = three_class_loss(logits, torch.full_like(target, IGNORED))
    loss.backward()
    assert float(loss.detach()) == 0 and float(logits.grad.abs().max()) == 0  # type: ignore[union-attr]


def test_loss_refuses_what_does_not_fit() -> None:
    logits, target = _toy()
    with pytest.raises(ParameterError, match="targets have shape"):
        three_class_loss(logits, target[:1])
    with pytest.raises(ParameterError, match="2 class weights"):
        three_class_loss(logits, target, (1.0, 5.0))
    with pytest.raises(ParameterError, match="divide_by"):
        three_class_loss(logits, target, divide_by="weights")  # type: ignore[arg-type]


# --- objects and threshold ------------------------------------------------------------------


def test_objects_hang_together_by_edges() -> None:
    inside = np.zeros((4, 6))
    inside[0, 0], inside[1, 1], inside[3, 2:5] = 0.9, 0.9, 0.6
    found = objects_of(_probabilities(inside), 0.5)
    assert found.max() == 3 and found.dtype == np.uint32
    assert objects_of(_probabilities(inside), 0.6).max() == 2, "strictly more than the threshold"
    assert objects_of(_probabilities(np.ones((3, 3))), 1.0).max() == 0
    assert np.unique(objects_of(_probabilities(inside), 0.5, min_size_px=2)).tolist() == [0, 1]


def test_objects_grow_into_borders_and_never_over_each_other() -> None:
    inside, border = np.zeros((5, 10)), np.zeros((5, 10))
    inside[1:4, 1:4], inside[1:4, 6:9] = 0.9, 0.9
    border[1:4, 4:6], border[0, :] = 0.9, 0.9
    found = objects_of(_probabilities(inside, border), 0.5, grow_px=1)
    assert (found[1:4, 1:5] == 1).all() and (found[1:4, 5:9] == 2).all()
    assert (found[0, 1:4] == 1).all() and found[0, 0] == 0, "a corner is further away than a pixel"
    assert (found[4] == 0).all(), "ground stays ground"
    assert (objects_of(_probabilities(np.zeros((3, 3))), 0.5, grow_px=1) == 0).all()


def test_objects_refuse_what_does_not_fit() -> None:
    with pytest.raises(ImageError, match="have shape"):
        objects_of(np.zeros((2, 4, 4), np.float32), 0.5)
    with pytest.raises(ParameterError, match="threshold 1"):
        objects_of(np.zeros((3, 4, 4), np.float32), 1.5)


def test_precision_is_counted_within_the_paint() -> None:
    objects = np.array([[1, 1, 2, 2, 1, 0, 0, 0]])
    assert average_precision(np.array([[0, 0, 1, 1, 0, 0, 0, 0]]), objects) == 1
    assert average_precision(np.array([[0, 0, 1, 1, 0, 2, 2, 2]]), objects) == 1, "found where nothing is known"
    assert average_precision(np.array([[3, 0, 1, 1, 0, 0, 0, 0]]), objects) == 0.5
    assert average_precision(np.zeros((1, 8), int), np.ones((1, 8), int)) == 1, "nothing wanted, nothing found"


def test_threshold_is_the_best_of_nineteen() -> None:
    """T-G4: 0.10, 0.15 … 1.00; the arg-max of the mean AP."""
    assert len(THRESHOLDS) == 19 and (THRESHOLDS[0], THRESHOLDS[-1]) == (0.1, 1.0)
    inside = np.full((6, 20), 0.05)
    objects = np.ones((6, 20), np.int32)
    for k, x in enumerate((1, 8, 15)):
        inside[1:5, x : x + 4], objects[1:5, x : x + 4] = 0.9, k + 2
    inside[1:5, 5:8] = 0.62  # a bridge between the first two
    search = best_threshold([_probabilities(inside)], [objects])
    assert dict(zip(search.thresholds, search.scores, strict=True))[0.6] < 1
    assert search.score == 1 and search.threshold == 0.65
    assert search.scores[-1] == 0


def test_of_equal_thresholds_the_one_nearest_to_a_half_is_taken() -> None:
    """T-G4: ties; of two as near the lower."""
    assert ThresholdSearch((0.1, 0.3, 0.6, 0.9), (0.5, 0.8, 0.8, 0.8)).threshold == 0.6
    assert ThresholdSearch((0.4, 0.6), (0.8, 0.8)).threshold == 0.4
    with pytest.raises(ParameterError, match="0 predictions"):
        best_threshold([], [])


# --- subsets --------------------------------------------------------------------------------


def test_subsets_are_nested() -> None:
    """T-G5: each holds the one before, whatever sizes are asked for."""
    small, middle, large = nested_subsets(20, (2, 7, 20), seed=3)
    assert set(small) < set(middle) < set(large) and large == tuple(range(20))
    assert nested_subsets(20, (7,), seed=3) == (middle,)
    assert nested_subsets(20, (7,), seed=4) != (middle,)
    for sizes in ((0, 2), (3, 3), (4, 21)):
        with pytest.raises(ParameterError, match="subsets of"):
            nested_subsets(20, sizes)


def test_pictures_may_leave_the_unit_range() -> None:
    image = np.array([[-0.4, 1.7]], np.float32)
    one = ObjectImage(image, np.array([[1, 2]]))
    assert one.image.tolist() == image.tolist()
    image[:] = 0
    assert one.image[0, 1] != 0, "copied"
    for wrong, match in ((np.zeros((1, 2)), "constant"), (np.array([[0, np.nan]]), "no numbers"), (image[0], "plane")):
        with pytest.raises(ImageError, match=match):
            ObjectImage(wrong.astype(np.float32), np.ones(wrong.shape, int))
