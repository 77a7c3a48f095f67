"""AEP's recipe: batches, scores, learning from strokes and from dense labels, and the loop around it."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.models.aep import AEP
from napari_cellenhance.core.models.segmentation_baseline import PlainSegmenter, SegmentationNetwork
from napari_cellenhance.core.painted import IGNORED, PaintedImage, to_targets
from napari_cellenhance.core.recipes.aep import AEPRecipe, AEPTraining
from napari_cellenhance.core.training import FitSettings, FitState, TrainableRecipe, fit

SETTINGS = AEPTraining(crop_px=32, batch_size=2, gap_px=4)
PLAIN = replace(SETTINGS, has_symmetries=False, contrast_fraction=0.0)


def _scene(seed: int = 0, side: int = 96) -> tuple[np.ndarray, np.ndarray]:
    """Bright discs on a noisy ground, and their classes: 1 ground, 2 disc."""
    rng = np.random.default_rng(seed)
    yy, xx = np.mgrid[:side, :side]
    classes = np.ones((side, side), np.int32)
    for y, x in rng.uniform(6, side - 6, (side * side // 500, 2)):
        classes[(yy - y) ** 2 + (xx - x) ** 2 < 49] = 2
    image = 0.2 + 0.5 * (classes == 2) + rng.normal(0, 0.08, classes.shape)
    return image.clip(0, 1).astype(np.float32), classes


def _dense(seed: int = 0) -> PaintedImage:
    return PaintedImage(*_scene(seed), f"scene {seed}")


def _strokes(seed: int = 0) -> PaintedImage:
    """Two rows of paint in every sixteen: 12 % of the pixels."""
    image, classes = _scene(seed)
    return PaintedImage(image, np.where(np.arange(96)[:, None] % 16 < 2, classes, 0), f"strokes {seed}")


def _recipe(module: SegmentationNetwork | None = None, settings: AEPTraining = SETTINGS, **more: Any) -> AEPRecipe:
    if module is None:
        torch.manual_seed(0)
    return AEPRecipe(module or AEP(2), more.pop("images", [_strokes()]), settings, **more)


# --- batches -------------------------------------------------------------------------------


def test_a_batch_holds_crops_of_all_images_with_their_paint() -> None:
    recipe = _recipe(settings=replace(PLAIN, batch_size=24), images=[_strokes(0), _dense(1)])
    images, targets = recipe._sample(np.random.default_rng(0))
    assert images.shape == (24, 1, 32, 32) and images.dtype == torch.float32
    assert targets.shape == (24, 32, 32) and targets.dtype == torch.int64
    assert set(targets.unique().tolist()) == {IGNORED, 0, 1}
    painted = (targets != IGNORED).float().mean(dim=(1, 2))
    assert painted.min() > 0 and painted.max() == 1, "strokes and dense labels"
    bright = images[:, 0][targets == 1].mean(), images[:, 0][targets == 0].mean()
    assert bright[0] > bright[1] + 0.3, "labels lie on their pixels"


def test_symmetries_turn_image_and_labels_together() -> None:
    recipe = _recipe(settings=replace(PLAIN, has_symmetries=True, batch_size=16), images=[_dense()])
    images, targets = recipe._sample(np.random.default_rng(0))
    assert (images[:, 0][targets == 1].mean() - images[:, 0][targets == 0].mean()) > 0.3

    ramp = np.repeat(np.linspace(0, 1, 96, dtype=np.float32)[None], 96, axis=0)
    labels = np.where(np.arange(96) < 48, 1, 2)[None].repeat(96, axis=0).astype(np.int32)

    def directions(has_symmetries: bool) -> set[tuple[bool, bool]]:
        sampled = _recipe(
            settings=replace(PLAIN, has_symmetries=has_symmetries, batch_size=40), images=[PaintedImage(ramp, labels)]
        )._sample(np.random.default_rng(0))[0]
        return {(bool(i[0, -1, 0] > i[0, 0, 0]), bool(i[0, 0, -1] > i[0, 0, 0])) for i in sampled}

    assert directions(False) == {(False, True)}
    assert len(directions(True)) == 4 or len(directions(True)) == 3


def test_contrast_is_changed_on_the_asked_share_only() -> None:
    def batch(fraction: float) -> torch.Tensor:
        recipe = _recipe(settings=replace(PLAIN, contrast_fraction=fraction, batch_size=30), images=[_dense()])
        return recipe._sample(np.random.default_rng(0))[0]

    assert all(np.isin(crop.numpy(), _dense().image).all() for crop in batch(0.0))
    changed = [not np.isin(crop.numpy(), _dense().image).all() for crop in batch(0.5)]
    assert 5 < sum(changed) < 25


def test_strokes_are_drawn_balanced_and_dense_labels_are_not() -> None:
    assert _recipe().is_sparse and _recipe()._sampler.is_balanced
    dense = _recipe(images=[_dense()])
    assert not dense.is_sparse and not dense._sampler.is_balanced
    assert _recipe(images=[_dense()], settings=replace(SETTINGS, crops="balanced"))._sampler.is_balanced
    assert not _recipe(settings=replace(SETTINGS, crops="uniform"))._sampler.is_balanced


# --- loss -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "parts"),
    [
        (AEP(2), {"first", "ensemble", "translated"}),
        (AEP(2, ensemble="fixed", translation="paper"), {"first", "ensemble", "translated"}),
        (AEP(2, ensemble="none"), {"first", "translated"}),
        (AEP(2, source="softmax"), {"first", "ensemble", "translated"}),
        (AEP(2, filters_per_class=2), {"first", "ensemble", "translated"}),
        (AEP(2, filters_per_class=0), {"first", "ensemble"}),
        (PlainSegmenter(2), {"first"}),
        (PlainSegmenter(2, network="unet"), {"first"}),
    ],
)
def test_every_variant_trains_all_its_parameters(module: SegmentationNetwork, parts: set[str]) -> None:
    recipe = _recipe(module)
    losses = recipe.loss(np.random.default_rng(0), 0)
    assert set(losses) == {"total", *parts}
    losses["total"].backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
    module.zero_grad()


def test_the_same_rng_gives_the_same_loss_dropout_included() -> None:
    recipe = _recipe()
    recipe.module.train()
    a = recipe.loss(np.random.default_rng(3), 7)["total"].item()
    assert recipe.loss(np.random.default_rng(3), 7)["total"].item() == a
    assert recipe.loss(np.random.default_rng(4), 7)["total"].item() != a


def test_unpainted_pixels_have_no_gradient_in_any_branch() -> None:
    recipe = _recipe(settings=PLAIN)
    images, targets = recipe._sample(np.random.default_rng(0))
    output = recipe.module.train()(images)
    output.branches.retain_grad()
    recipe._joint_loss(output, targets)["total"].backward()
    gradient = output.branches.grad
    assert gradient is not None
    is_painted = (targets != IGNORED)[:, None, None].expand_as(gradient)
    assert is_painted.any() and not is_painted.all()
    assert not gradient[~is_painted].any() and gradient[is_painted].any()


def test_class_weights_reach_the_loss() -> None:
    def first(settings: AEPTraining) -> float:
        recipe = _recipe(settings=settings)
        recipe.module.eval()
        return recipe.loss(np.random.default_rng(0), 0)["total"].item()

    plain = first(PLAIN)
    assert first(replace(PLAIN, class_weights=(2.0, 2.0))) == pytest.approx(2 * plain, rel=1e-5)
    assert first(replace(PLAIN, class_weights=(1.0, 5.0))) > 1.2 * plain
    balanced = _recipe(settings=replace(PLAIN, balance_classes=True))
    counts = np.bincount(np.concatenate([i.labels[i.labels > 0] for i in balanced.held_out.train]))[1:]
    np.testing.assert_allclose(balanced._class_weights, counts.sum() / (2 * counts), rtol=1e-5)


def test_bf16_changes_the_loss_by_rounding_only() -> None:
    torch.manual_seed(0)
    net = AEP(2, dropout=0.0)
    exact, rounded = _recipe(net), _recipe(copy.deepcopy(net), use_bf16=True)
    losses = [recipe.loss(np.random.default_rng(0), 0)["total"] for recipe in (exact, rounded)]
    assert losses[1].dtype == torch.float32
    assert losses[1].item() == pytest.approx(losses[0].item(), rel=0.02)


# --- validation -------------------------------------------------------------------------------


class _Threshold(AEP):
    """Knows the answer: class 1 above 0.45."""

    def forward(self, x: torch.Tensor) -> Any:
        out = super().forward(x)
        out.logits[:] = torch.cat([0.45 - x, x - 0.45], dim=1) * 20
        return out


def test_validation_scores_the_iou_of_each_class_on_painted_pixels() -> None:
    image, classes = _scene()
    labels = np.where(np.arange(96)[:, None] % 16 < 2, classes, 0)
    noise = PaintedImage(image, labels)
    recipe = _recipe(_Threshold(2), images=[_strokes(1)], validation=[noise])
    with torch.no_grad():
        scores = recipe.validate()
    found, is_painted = np.where(image > 0.45, 2, 1), labels > 0
    for value in (1, 2):
        wanted, got = (labels == value)[is_painted], (found == value)[is_painted]
        assert scores[f"iou_{value}"] == pytest.approx((wanted & got).sum() / (wanted | got).sum())
    assert scores["mean_iou"] == pytest.approx((scores["iou_1"] + scores["iou_2"]) / 2)
    assert scores["mean_iou"] > 0.9
    assert scores["total"] == pytest.approx(1 - scores["mean_iou"], abs=1e-5)


def test_a_smaller_loss_decides_among_equal_ious() -> None:
    recipe = _recipe(_Threshold(2))
    first = recipe.validate()
    with torch.no_grad():
        recipe.module.first.out.bias += torch.tensor([3.0, -3.0])
    second = recipe.validate()
    assert second["mean_iou"] == first["mean_iou"] and second["loss"] > first["loss"]
    assert second["total"] > first["total"]


def test_the_loss_can_be_the_criterion() -> None:
    scores = _recipe(settings=replace(SETTINGS, keep_by="loss")).validate()
    assert scores["total"] == scores["loss"] > 0


def test_validation_sees_the_whole_plane_around_its_windows() -> None:
    """The loss equals that of the untiled plane, although windows are of a crop's size."""
    recipe = _recipe(images=[_strokes(1)], validation=[_strokes(0)])
    assert len(recipe._scored) > 4
    scores = recipe.validate()
    painted = _strokes(0)
    recipe.module.eval()
    with torch.no_grad():
        output = recipe.module(torch.from_numpy(painted.image)[None, None])
        target = torch.from_numpy(to_targets(painted.labels, (1, 2)))[None]
        assert scores["loss"] == pytest.approx(recipe._joint_loss(output, target)["total"].item(), rel=1e-4)


def test_validating_leaves_weights_statistics_and_mode() -> None:
    recipe = _recipe()
    recipe.module.train()
    before = copy.deepcopy(recipe.module.state_dict())
    assert recipe.validate() == recipe.validate()
    assert recipe.module.training
    assert all(torch.equal(value, before[name]) for name, value in recipe.module.state_dict().items())


def test_a_class_that_never_occurs_has_no_score() -> None:
    recipe = _recipe(AEP(3), values=(1, 2, 4))
    scores = recipe.validate()
    assert all(np.isfinite(value) for value in scores.values())
    assert ("iou_4" in scores) == (scores.get("iou_4") == 0.0)  # only if it was found in vain


def test_windows_beyond_the_limit_are_left_out_evenly() -> None:
    every = _recipe(images=[_strokes(1)], validation=[_strokes(0)])
    few = _recipe(images=[_strokes(1)], validation=[_strokes(0)], settings=replace(SETTINGS, max_validation_windows=3))
    assert len(every._scored) == 9 and len(few._scored) == 3


# --- what is learned and what is kept aside ------------------------------------------------------


def test_paint_is_kept_aside_unless_validation_images_are_given() -> None:
    recipe = _recipe()
    assert recipe.held_out.how == "blocks"
    (train,), (kept,) = recipe.held_out.train, recipe.held_out.validation
    assert not ((train.labels > 0) & (kept.labels > 0)).any()
    given = _recipe(validation=[_strokes(5)])
    assert given.held_out.validation[0].name == "strokes 5"
    assert given.held_out.train[0].name == "strokes 0"
    assert (given.held_out.train[0].labels > 0).sum() > (train.labels > 0).sum()
    assert _recipe(settings=replace(SETTINGS, holdout_fraction=0)).held_out.how == "none"


def test_epochs_count_crops() -> None:
    assert _recipe(images=[_dense()]).steps_per_epoch == 5  # 3 × 3 places for 32 px, two a step
    assert _recipe(images=[_dense()], settings=replace(SETTINGS, batch_size=64)).steps_per_epoch == 1


def test_values_may_be_those_of_a_model_that_goes_on_learning() -> None:
    assert _recipe().values == (1, 2)
    assert _recipe(AEP(3), values=(1, 2, 3)).values == (1, 2, 3)
    with pytest.raises(ImageError, match="label 2 is painted"):
        _recipe(values=(1, 3))


@pytest.mark.parametrize(
    ("module", "more", "error", "message"),
    [
        (AEP(3), {}, ParameterError, "3 classes"),
        (AEP(2), {"settings": replace(SETTINGS, class_weights=(1.0, 1.0, 5.0))}, ParameterError, "class weights"),
        (AEP(2), {"images": []}, ImageError, "nothing is painted"),
        (AEP(2), {"validation": [PaintedImage(*_scene()).with_labels(np.zeros((96, 96), int))]}, ImageError, "nothing"),
    ],
)
def test_what_does_not_fit_is_explained(
    module: AEP, more: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        _recipe(module, **more)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"crop_px": 36}, "crop"),
        ({"crop_px": 24}, "crop"),
        ({"batch_size": 0}, "batch"),
        ({"max_validation_windows": 0}, "validation windows"),
        ({"crops": "other"}, "crops"),
        ({"keep_by": "other"}, "keep_by"),
        ({"contrast_fraction": 1.5}, "contrast_fraction"),
        ({"holdout_fraction": 0.7}, "holdout_fraction"),
        ({"gap_px": -1}, "gap_px"),
        ({"class_weights": (1.0, -1.0)}, "class_weights"),
        ({"class_weights": (0.0, 0.0)}, "class_weights"),
        ({"class_weights": (1.0, float("nan"))}, "class_weights"),
        ({"class_weights": (1.0, 2.0), "balance_classes": True}, "exclude"),
    ],
)
def test_settings_are_checked(bad: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        AEPTraining(**bad)


# --- with the loop --------------------------------------------------------------------------------


def _fit(recipe: TrainableRecipe, n_steps: int, validate_every: int = 2, **more: Any) -> FitState:
    settings = FitSettings(
        n_steps=n_steps, validate_every=validate_every, n_warmup=1, learning_rate=3e-3, weight_decay=0
    )
    return fit(recipe, settings, **more).state


@pytest.mark.parametrize(
    ("kind", "painted"),
    [("aep", _strokes()), ("aep", _dense()), ("unet", _strokes())],
    ids=["strokes", "dense", "unet"],
)
def test_it_learns_from_labels_alone(kind: str, painted: PaintedImage) -> None:
    torch.manual_seed(0)
    module = AEP(2) if kind == "aep" else PlainSegmenter(2, network="unet")
    recipe = _recipe(
        module, replace(SETTINGS, batch_size=4, max_validation_windows=3), images=[painted], validation=[_dense(3)]
    )
    before = recipe.validate()
    _fit(recipe, 32, validate_every=8)
    after = recipe.validate()
    assert after["mean_iou"] > 0.85 and after["mean_iou"] > before["mean_iou"] + 0.3
    assert after["loss"] < before["loss"]


def test_training_moves_the_weights_of_the_branches() -> None:
    recipe = _recipe()
    start = recipe.module.branch_weights().clone()
    _fit(recipe, 4)
    assert not torch.equal(recipe.module.branch_weights(), start)
    assert torch.isfinite(recipe.module.branch_weights()).all()


def test_a_resumed_run_equals_an_uninterrupted_one() -> None:
    whole, first, second = _recipe(), _recipe(), _recipe()
    _fit(whole, 4)
    saved: list[FitState] = []
    _fit(first, 4, on_checkpoint=lambda s: saved.append(copy.deepcopy(s)), is_cancelled=lambda: bool(saved))
    assert saved[0].step == 2
    _fit(second, 4, state=saved[0])
    for name, value in second.module.state_dict().items():
        torch.testing.assert_close(value, whole.module.state_dict()[name], rtol=0, atol=0)


def test_the_history_has_the_curves_of_the_dock() -> None:
    row = _fit(_recipe(), 2).history[-1]
    assert {"total", "first", "ensemble", "translated", "val_mean_iou", "val_iou_1", "val_iou_2", "val_loss"} <= set(
        row
    )


def test_a_validation_image_without_paint_has_no_say() -> None:
    bare = _strokes(2)
    recipe = _recipe(images=[_strokes(1)], validation=[_strokes(0), bare.with_labels(np.zeros((96, 96), int))])
    alone = _recipe(images=[_strokes(1)], validation=[_strokes(0)])
    assert len(recipe._scored) == len(alone._scored) == 9
    assert recipe.validate() == pytest.approx(alone.validate(), rel=1e-5)
