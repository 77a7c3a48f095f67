"""NU-Net's recipe: balancing, strengths, what the network sees (METHODS T-N8)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.losses.nunet import StyleBank, build_style_bank
from napari_cellenhance.core.models.nunet import NUNet
from napari_cellenhance.core.models.perception import random_vgg
from napari_cellenhance.core.recipes.nunet import (
    CONTACT_EMPHASIS,
    NUNetRecipe,
    NUNetTraining,
    _sample_of,
    as_filtered,
    balance,
    covered_fraction,
)
from napari_cellenhance.core.sources import Crop, ImageSource, sample_masks

SETTINGS = NUNetTraining(
    crop_px=32, batch_size=2, n_validation=2, diameters_px=(8, 12), n_anchored=0, empty_fraction=0.0
)


def _source() -> ImageSource:
    rng = np.random.default_rng(5)
    yy, xx = np.mgrid[:64, :64]
    images, labels = [], []
    for _ in range(3):
        lab = np.zeros((64, 64), np.uint16)
        for i, (y, x) in enumerate(rng.uniform(8, 56, (6, 2)), start=1):
            lab[(yy - y) ** 2 + (xx - x) ** 2 < 25] = i
        images.append(np.clip((lab > 0) * 0.8 + 0.05 * rng.random((64, 64)), 0, 1).astype(np.float32))
        labels.append(lab)
    return ImageSource("discs", images, [10.0] * 3, labels)


def _recipe(settings: NUNetTraining = SETTINGS, conditioning: str = "head") -> NUNetRecipe:
    torch.manual_seed(0)
    source, perception = _source(), random_vgg(0)
    masks = sample_masks([source], 8, 32, np.random.default_rng(0), diameters=(8, 12))
    bank = build_style_bank(perception, torch.from_numpy(masks)[:, None], 2)
    if conditioning == "head":
        module = NUNet(conditioning="head", knots=(2.5, 10.0), output="sigmoid")
    elif conditioning == "decoder":
        module = NUNet(conditioning="decoder", knots=(2.5, 10.0), output="sigmoid", norm="frozen")
    else:
        module = NUNet(output="sigmoid")
    return NUNetRecipe(module, perception, bank, [source], [source], settings)


def test_balancing_makes_w_the_ratio_of_the_losses() -> None:
    recipe = _recipe()
    before = {k: v.clone() for k, v in recipe.module.state_dict().items()}
    factor = balance(recipe, 3, seed=0)
    for key, value in recipe.module.state_dict().items():
        assert torch.equal(value, before[key]), "the dry run works on a copy"
    recipe.balance_factor = factor
    assert balance(recipe, 1, seed=0) > 0
    # Replay the first batch of the dry run: with one update, w·λ·L_m / L_c is w to ± 1 %.
    one = balance(recipe, 1, seed=0)
    losses = recipe.loss(np.random.default_rng([0, 2, 0]), 0)
    for w in (5.0, 8.0):
        ratio = w * one * float(losses["style"].detach()) / float(losses["content"].detach())
        assert ratio == pytest.approx(recipe.settings.loss_ratio * w, rel=0.01)


def test_nothing_to_balance_and_nothing_to_balance_with(monkeypatch: pytest.MonkeyPatch) -> None:
    assert balance(_recipe(replace(SETTINGS, self_supervised=0.0, paired=1.0)), 3, seed=0) == 1.0

    def loss_without_style(recipe: NUNetRecipe, rng: np.random.Generator, step: int) -> dict[str, torch.Tensor]:
        content = next(recipe.module.parameters()).square().sum()
        return {"content": content, "style": torch.zeros(()), "total": content}

    monkeypatch.setattr(NUNetRecipe, "loss", loss_without_style)
    with pytest.raises(ParameterError, match="the morphological loss is zero in the dry run"):
        balance(_recipe(), 2, seed=0)


def test_the_loss_reaches_every_parameter() -> None:
    recipe = _recipe()
    recipe.loss(np.random.default_rng(0), 0)["total"].backward()
    for name, parameter in recipe.module.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_the_same_rng_gives_the_same_loss() -> None:
    recipe = _recipe()
    a = recipe.loss(np.random.default_rng(3), 7)
    b = recipe.loss(np.random.default_rng(3), 7)
    assert {k: float(v.detach()) for k, v in a.items()} == {k: float(v.detach()) for k, v in b.items()}


def test_anchoring_fades_out() -> None:
    settings = NUNetTraining(
        crop_px=32, batch_size=2, n_validation=2, diameters_px=(8, 12), n_anchored=10, empty_fraction=0
    )
    recipe = _recipe(settings)
    totals = [float(recipe.loss(np.random.default_rng(3), step)["total"].detach()) for step in (0, 9, 15, 20, 99)]
    assert totals[0] == totals[1] > totals[2] > totals[3] == totals[4]


def test_a_fixed_strength_network_trains_too() -> None:
    settings = NUNetTraining(crop_px=32, batch_size=2, n_validation=2, diameters_px=(8, 12), strengths=(8.0, 8.0))
    recipe = _recipe(settings, conditioning="none")
    losses = recipe.loss(np.random.default_rng(0), 0)
    losses["total"].backward()
    assert {"total", "content", "style", "pixel"} <= set(losses)
    assert "otsu_iou_w8" in recipe.validate()


def test_validation_scores_segmentation_beside_the_losses() -> None:
    scores = _recipe().validate()
    assert 0.0 <= scores["otsu_iou_w10"] <= 1.0
    assert scores == _recipe().validate()


def test_bank_and_losses_must_share_the_perceptual_network() -> None:
    recipe = _recipe()
    alien = StyleBank(recipe.bank.grams, recipe.bank.coverages, "another")
    with pytest.raises(ParameterError, match="another"):
        NUNetRecipe(recipe.module, recipe.perception, alien, [_source()], [], SETTINGS)
    with pytest.raises(ImageError, match="no training images"):
        NUNetRecipe(recipe.module, recipe.perception, recipe.bank, [], [], SETTINGS)


def test_a_paired_crop_pulls_the_output_to_its_labels() -> None:
    settings = replace(SETTINGS, paired=1.0, self_supervised=0.0, batch_size=4, n_validation=4)
    torch.manual_seed(0)
    module = NUNet(conditioning="head", knots=(2.5, 10.0), output="sigmoid")
    recipe = NUNetRecipe(module, None, None, [_source()], [_source()], settings)
    before = recipe.validate()
    optimizer = torch.optim.AdamW(module.parameters(), lr=2e-3)
    for step in range(40):
        losses = recipe.loss(np.random.default_rng([0, step]), step)
        assert set(losses) == {"total", "pixel", "paired"}
        optimizer.zero_grad()
        losses["total"].backward()
        optimizer.step()
    after = recipe.validate()
    assert after["paired"] < 0.6 * before["paired"]
    assert after["otsu_iou_w10"] > before["otsu_iou_w10"] + 0.1


def test_the_paired_term_is_added_only_where_labels_are() -> None:
    settings = replace(SETTINGS, paired=1.0, paired_fraction=0.5, batch_size=4)
    plain = ImageSource("plain", _source().images, [10.0] * 3, [None] * 3)
    recipe = _recipe()
    guided = NUNetRecipe(recipe.module, recipe.perception, recipe.bank, [_source(), plain], [], settings)
    batch = guided._sample(np.random.default_rng(0))
    assert batch.is_paired.tolist() == [True, True, False, False]
    losses = guided.loss(np.random.default_rng(0), 0)
    assert {"paired", "content", "style"} <= set(losses)
    with pytest.raises(ImageError, match="needs labels"):
        NUNetRecipe(recipe.module, recipe.perception, recipe.bank, [plain], [], settings)


def test_noise_alone_has_a_black_target_without_any_labels() -> None:
    recipe = _recipe(replace(SETTINGS, empty_fraction=1.0))
    batch = recipe._sample(np.random.default_rng(0))
    assert not batch.mildest.any() and not batch.strongest.any() and batch.is_paired.all()
    assert float(batch.seen.std()) > 10
    losses = recipe.loss(np.random.default_rng(0), 0)
    assert float(losses["style"]) == 0.0 and float(losses["paired"].detach()) > 0


def test_constant_crops_are_replaced_by_noise() -> None:
    black = ImageSource("black", [np.zeros((64, 64), np.float32)], [10.0], [np.zeros((64, 64), np.uint16)])
    settings = replace(SETTINGS, paired=1.0, paired_fraction=1.0, degraded_fraction=0.0)
    recipe = _recipe()
    guided = NUNetRecipe(recipe.module, recipe.perception, recipe.bank, [black], [_source()], settings)
    assert float(guided._sample(np.random.default_rng(0)).seen.std(dim=(2, 3)).min()) > 10


def test_contact_lines_count_more() -> None:
    labels = np.zeros((32, 32), np.uint16)
    labels[8:24, 8:16], labels[8:24, 16:24] = 1, 2
    image = (labels > 0).astype(np.float32)
    sample = _sample_of(Crop(image, labels), image, is_paired=True)
    assert sample.emphasis[16, 15] == CONTACT_EMPHASIS and sample.emphasis[16, 10] == 1.0


def test_self_supervision_asks_for_its_networks() -> None:
    with pytest.raises(ParameterError, match="perceptual network and a style bank"):
        NUNetRecipe(_recipe().module, None, None, [_source()], [], SETTINGS)


def test_covered_fraction_is_the_bright_share() -> None:
    image = np.zeros((64, 64), np.float32)
    image[:, :16] = 1.0
    assert covered_fraction(image) == pytest.approx(0.25, abs=0.05)
    assert covered_fraction(np.ones((8, 8), np.float32)) == 0.0


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"crop_px": 30}, "crop"),
        ({"batch_size": 0}, "batch"),
        ({"strengths": (0.0, 5.0)}, "strengths"),
        ({"paired": -1.0}, "paired"),
        ({"self_supervised": 0.0}, "paired"),
    ],
)
def test_settings_are_checked(bad: dict[str, object], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        NUNetTraining(**bad)  # type: ignore[arg-type]


def _statistics(recipe: NUNetRecipe) -> list[torch.Tensor]:
    return [v.clone() for k, v in recipe.module.state_dict().items() if k.endswith("running_mean")]


def test_frozen_norms_gather_statistics_and_then_keep_them() -> None:
    recipe = _recipe(replace(SETTINGS, norms_freeze_at=1), conditioning="decoder")
    start = _statistics(recipe)
    recipe.module.train()
    recipe.loss(np.random.default_rng(0), 0)
    gathered = _statistics(recipe)
    assert all(not torch.equal(a, b) for a, b in zip(start, gathered, strict=True))
    recipe.module.train()
    losses = recipe.loss(np.random.default_rng(1), 1)
    assert all(torch.equal(a, b) for a, b in zip(gathered, _statistics(recipe), strict=True))
    losses["total"].backward()
    assert all(p.grad is not None for p in recipe.module.parameters()), "scale and shift go on learning"


def test_only_frozen_norms_see_dim_crops() -> None:
    settings = replace(SETTINGS, dim_fraction=1.0, degraded_fraction=0.0)
    for conditioning, is_dim in (("head", False), ("decoder", True)):
        batch = _recipe(settings, conditioning)._sample(np.random.default_rng(3))
        spans = [float(image.max() - image.min()) for image in batch.seen]
        references = [float(image.max() - image.min()) for image in batch.reference]
        assert references == pytest.approx([255.0] * len(references), abs=0.1)
        assert (max(spans) < 250.0) == is_dim


def test_a_poor_crop_reaches_the_network_as_the_normaliser_would_bring_it() -> None:
    image = (3.0 + 5.0 * np.random.default_rng(0).random((64, 64))).astype(np.float32)
    out = as_filtered(image)
    assert np.percentile(out, 0.1) == pytest.approx(0.0, abs=1e-3)
    assert np.percentile(out, 99.9) == pytest.approx(1.0, abs=1e-3)
    assert out.max() > 1.0, "unclipped"
    flat = np.ones((4, 4), np.float32)
    assert as_filtered(flat) is flat
