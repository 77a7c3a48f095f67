"""Losses of NU-Net against their definitions (METHODS T-N5 … T-N8)."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.core.losses.nunet import (
    StyleBank,
    build_style_bank,
    content_loss,
    gram_matrix,
    morphological_loss,
)
from napari_cellenhance.core.models.perception import (
    Perception,
    distilled_vgg19,
    perception_from_state,
    random_vgg,
    squeezenet,
    vgg19,
)


@pytest.fixture(scope="module")
def perception() -> Perception:
    return random_vgg(0)


@pytest.fixture(scope="module")
def masks() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(12, 1, 8, 8, generator=generator)
    levels = torch.linspace(0.2, 0.9, 12)[:, None, None, None]
    return torch.nn.functional.interpolate((coarse > levels).float() * 255.0, scale_factor=4)


def test_gram_is_symmetric_semidefinite_and_blind_to_position() -> None:
    features = torch.randn(2, 5, 6, 7)
    gram = gram_matrix(features)
    torch.testing.assert_close(gram, gram.transpose(1, 2))
    eigenvalues = torch.linalg.eigvalsh(gram)
    assert eigenvalues.min() >= -1e-6 * eigenvalues.max()
    torch.testing.assert_close(gram_matrix(3.0 * features), 9.0 * gram)
    shuffled = features.flatten(2)[:, :, torch.randperm(42)].reshape(2, 5, 6, 7)
    torch.testing.assert_close(gram_matrix(shuffled), gram)


def test_gram_has_the_normaliser_of_the_paper() -> None:
    features = torch.full((1, 2, 3, 4), 2.0)
    assert gram_matrix(features)[0, 0, 1].item() == pytest.approx(4.0 * 12 / (2 * 3 * 4))


def test_mean_gram_loss_has_the_gradient_of_comparing_with_every_mask(
    perception: Perception, masks: torch.Tensor
) -> None:
    bank = build_style_bank(perception, masks)
    image = (torch.rand(2, 1, 32, 32) * 255.0).requires_grad_()
    features = perception(image)
    (short,) = torch.autograd.grad(morphological_loss(features, bank).sum(), image, retain_graph=True)
    every = [[gram_matrix(f)[0] for f in perception(m[None])] for m in masks]
    looped = torch.zeros(())
    for tap, feature in enumerate(features):
        own = gram_matrix(feature)
        for grams in every:
            looped = looped + (own - grams[tap]).square().sum() / own.shape[1] ** 2 / len(every)
    (long,) = torch.autograd.grad(looped, image)
    torch.testing.assert_close(short, long, rtol=1e-4, atol=1e-6 * float(long.abs().max()))


def test_losses_vanish_at_the_target(perception: Perception, masks: torch.Tensor) -> None:
    features = perception(masks[:1])
    assert content_loss(features[1], features[1]).item() == 0.0
    bank = build_style_bank(perception, masks[:1])
    assert morphological_loss(features, bank).item() == pytest.approx(0.0, abs=1e-12)


def test_content_loss_is_the_mean_square_and_relative_divides_by_the_energy() -> None:
    reference, output = torch.full((1, 2, 4, 4), 2.0), torch.full((1, 2, 4, 4), 3.0)
    assert content_loss(reference, output).tolist() == [1.0]
    assert content_loss(reference, output, relative=True).tolist() == [0.25]


def test_relative_morphology_is_one_for_a_black_image_without_features(
    masks: torch.Tensor, perception: Perception
) -> None:
    bank = build_style_bank(perception, masks)
    black = [torch.zeros_like(f) for f in perception(masks[:1])]
    assert morphological_loss(black, bank, relative=True).item() == pytest.approx(1.0)


def test_bank_groups_by_covered_area_and_each_sample_meets_its_own(perception: Perception, masks: torch.Tensor) -> None:
    bank = build_style_bank(perception, masks, n_groups=3)
    assert bank.n_groups == 3
    assert list(bank.coverages) == sorted(bank.coverages)
    assert bank.nearest_groups([0.0, bank.coverages[1], 1.0]).tolist() == [0, 1, 2]
    features = perception(masks[:2])
    with pytest.raises(ParameterError, match="give the group"):
        morphological_loss(features, bank)
    same = morphological_loss(features, bank, groups=torch.tensor([2, 2]))
    other = morphological_loss(features, bank, groups=torch.tensor([2, 0]))
    assert same[0] == other[0]
    assert same[1] != other[1]


def test_bank_round_trip(perception: Perception, masks: torch.Tensor) -> None:
    bank = build_style_bank(perception, masks, n_groups=2)
    again = StyleBank.from_tensors(bank.to_tensors(), bank.perception_id)
    assert again.coverages == pytest.approx(bank.coverages)
    for a, b in zip(again.grams, bank.grams, strict=True):
        assert torch.equal(a, b)
    with pytest.raises(ParameterError, match="no Gram matrices"):
        StyleBank.from_tensors({}, "x")


def test_bank_needs_masks(perception: Perception) -> None:
    with pytest.raises(ParameterError, match="masks have shape"):
        build_style_bank(perception, torch.zeros(0, 1, 8, 8))


def _vgg_names(last: str) -> list[str]:
    plan = ["11", "12", "21", "22", "31", "32", "33", "34", "41", "42", "43", "44", "51", "52", "53", "54"]
    return plan[: plan.index(last) + 1]


def test_distilled_network_equals_its_unfolded_definition() -> None:
    generator = torch.Generator().manual_seed(3)
    widths = {"1": 4, "2": 6, "3": 8, "4": 10, "5": 12}
    state = {
        "conv0.weight": torch.randn(3, 3, 1, 1, generator=generator),
        "conv0.bias": torch.randn(3, generator=generator),
    }
    n_in = 3
    for name in _vgg_names("51"):
        n_out = widths[name[0]]
        state[f"conv{name}.weight"] = torch.randn(n_out, n_in, 3, 3, generator=generator) / (3 * n_in**0.5)
        state[f"conv{name}.bias"] = torch.randn(n_out, generator=generator)
        n_in = n_out
    image = torch.rand(1, 1, 32, 32, generator=generator) * 255.0
    features = distilled_vgg19(state)(image)
    functional = torch.nn.functional
    x = functional.conv2d((image / 255.0).repeat(1, 3, 1, 1), state["conv0.weight"], state["conv0.bias"])
    expected = []
    for name in _vgg_names("51"):
        if name in ("21", "31", "41", "51"):
            x = functional.max_pool2d(x, 2)
        padded = functional.pad(x, (1, 1, 1, 1), mode="reflect")
        x = functional.relu(functional.conv2d(padded, state[f"conv{name}.weight"], state[f"conv{name}.bias"]))
        if name in ("22", "34", "44", "51"):
            expected.append(x)
    for found, wanted in zip(features, expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_full_vgg_taps_and_interior_equal_the_definition() -> None:
    generator = torch.Generator().manual_seed(4)
    state, n_in, index = {}, 3, 0
    for name in _vgg_names("54"):
        if name in ("21", "31", "41", "51"):
            index += 1
        state[f"features.{index}.weight"] = torch.randn(4, n_in, 3, 3, generator=generator) / 3
        state[f"features.{index}.bias"] = torch.randn(4, generator=generator)
        n_in, index = 4, index + 2
    network = perception_from_state(state)
    assert network.spec.id == vgg19(state).spec.id
    assert [f.shape[-1] for f in network(torch.rand(1, 1, 64, 64))] == [32, 16, 8, 4]
    image = torch.rand(1, 1, 64, 64, generator=generator) * 255.0
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    rgb = ((image / 255.0).repeat(1, 3, 1, 1) - mean[:, None, None]) / std[:, None, None]
    first = torch.nn.functional.conv2d(rgb, state["features.0.weight"], state["features.0.bias"], padding=1)
    folded = network.convs["11"](image / 255.0)
    torch.testing.assert_close(folded[..., 1:-1, 1:-1], first[..., 1:-1, 1:-1], rtol=1e-4, atol=1e-4)


def test_wrong_perceptual_weights_are_named() -> None:
    with pytest.raises(ParameterError, match="lacks the layers"):
        distilled_vgg19({"conv0.weight": torch.zeros(3, 3, 1, 1)})
    with pytest.raises(ParameterError, match=r"lacks features\.0\.weight"):
        vgg19({})


def test_perception_is_frozen(perception: Perception) -> None:
    assert not any(p.requires_grad for p in perception.parameters())


def _squeezenet_state() -> dict[str, torch.Tensor]:
    """Random weights in the names and shapes of torchvision's SqueezeNet 1.1."""
    generator = torch.Generator().manual_seed(0)
    fires = {3: (64, 16, 64), 4: (128, 16, 64), 6: (128, 32, 128), 7: (256, 32, 128)}
    fires |= {9: (256, 48, 192), 10: (384, 48, 192), 11: (384, 64, 256), 12: (512, 64, 256)}
    shapes: dict[str, tuple[int, ...]] = {"0": (64, 3, 3, 3)}
    for i, (n_in, squeezed, expanded) in fires.items():
        shapes[f"{i}.squeeze"] = (squeezed, n_in, 1, 1)
        shapes[f"{i}.expand1x1"] = (expanded, squeezed, 1, 1)
        shapes[f"{i}.expand3x3"] = (expanded, squeezed, 3, 3)
    state = {}
    for name, shape in shapes.items():
        spread = (2.0 / math.prod(shape[1:])) ** 0.5
        state[f"features.{name}.weight"] = torch.randn(shape, generator=generator) * spread
        state[f"features.{name}.bias"] = 0.1 * torch.randn(shape[0], generator=generator)
    return state


def test_squeezenet_equals_its_definition() -> None:
    state = _squeezenet_state()
    image = torch.rand(2, 1, 66, 70, generator=torch.Generator().manual_seed(1)) * 255

    def conv(x: torch.Tensor, name: str, **options: int) -> torch.Tensor:
        return F.relu(F.conv2d(x, state[f"features.{name}.weight"], state[f"features.{name}.bias"], **options))

    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    x = conv((image.repeat(1, 3, 1, 1) / 255 - mean) / std, "0", stride=2)
    expected = [x]
    for group in ((3, 4), (6, 7), (9, 10, 11, 12)):
        x = F.max_pool2d(x, 3, 2, ceil_mode=True)
        for i in group:
            x = conv(x, f"{i}.squeeze")
            x = torch.cat([conv(x, f"{i}.expand1x1"), conv(x, f"{i}.expand3x3", padding=1)], dim=1)
        expected.append(x)
    features = squeezenet(state)(image)
    assert [f.shape[1] for f in features] == [64, 128, 256, 512]
    for found, wanted in zip(features, expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_a_perceptual_network_is_known_by_its_layers() -> None:
    assert perception_from_state(_squeezenet_state()).spec.id == "squeezenet1.1"
    damaged = _squeezenet_state()
    del damaged["features.9.expand1x1.weight"]
    with pytest.raises(ParameterError, match=r"9\.expand1x1"):
        perception_from_state(damaged)
    with pytest.raises(ParameterError, match="distilled VGG-19 encoder"):
        perception_from_state({"conv0.weight": torch.zeros(3, 3, 1, 1)})
    with pytest.raises(ParameterError, match=r"has the layers \['blocks.0"):
        perception_from_state({"blocks.0.weight": torch.zeros(1)})
