"""Noise2Void's recipe: what is learned, from where, and what the network never sees (T-V3, T-V4, T-V6)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from napari_cellenhance.core.blind_spots import BlindSpots
from napari_cellenhance.core.device import DeviceChoice
from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.models.denoiser import DenoisingNetwork, variant_settings
from napari_cellenhance.core.noise import NoiseRange, gaussian
from napari_cellenhance.core.recipes.denoiser import Denoiser
from napari_cellenhance.core.recipes.n2v import N2VRecipe, N2VTraining, NoisyImage
from napari_cellenhance.core.training import FitSettings, fit

SMALL: dict[str, Any] = {"patch_px": 32, "batch_size": 4, "n_validation": 16}
CPU = DeviceChoice(device="cpu", precision="float32", note="")


def _noise(shape: tuple[int, ...] = (1, 96, 96), seed: int = 0) -> NoisyImage:
    return NoisyImage(np.random.default_rng(seed).normal(0.5, 0.1, shape).astype(np.float32), "noise")


def _recipe(image: NoisyImage | None = None, net: DenoisingNetwork | None = None, **settings: Any) -> N2VRecipe:
    torch.manual_seed(0)
    return N2VRecipe(net or DenoisingNetwork(width=4), [image or _noise()], N2VTraining(**(SMALL | settings)))


class _Stub(nn.Module):
    """A network in place of the real one."""

    def __init__(self, what: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.what = what
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.what(x) + 0 * self.weight


def test_the_loss_looks_at_blind_spots_only() -> None:
    """T-V3: the gradient with respect to the prediction is zero elsewhere."""
    recipe = _recipe(spots=BlindSpots(percent=0.5))
    seen: list[Tensor] = []

    def predict(x: Tensor) -> Tensor:
        seen.append(torch.zeros_like(x).requires_grad_())
        return seen[-1]

    recipe.module = _Stub(predict)
    recipe.loss(np.random.default_rng(0), 0)["total"].backward()
    gradient = seen[0].grad
    assert gradient is not None
    share = float((gradient != 0).float().mean())
    assert 0.002 < share < 0.009, "0.5 % of the pixels, less those that are kept aside"


def test_the_true_value_of_a_blind_spot_never_reaches_the_network() -> None:
    """T-V4: change it, and the input of the network stays the same, unless a neighbour's replacement is read there."""
    recipe = _recipe(spots=BlindSpots(percent=0.1, radius_px=2))
    seen: list[Tensor] = []

    def watch(x: Tensor) -> Tensor:
        seen.append(x.clone())
        return x

    recipe.module = _Stub(watch)
    patch = np.random.default_rng(1).normal(0, 1, (1, 32, 32)).astype(np.float32)
    everywhere = np.ones((32, 32), bool)
    first = recipe._hide(patch, everywhere, 0, np.random.default_rng(5), 0.1)
    assert first is not None
    changed = patch.copy()
    changed[tuple(first.at.T)] += 7.0
    second = recipe._hide(changed, everywhere, 0, np.random.default_rng(5), 0.1)
    assert second is not None and np.array_equal(first.at, second.at)
    assert np.array_equal(first.blinded, second.blinded)
    assert not np.array_equal(first.wanted, second.wanted)


def test_copying_the_input_is_worse_than_a_constant_on_pure_noise() -> None:
    """T-V6: identity 2σ² with neighbours drawn at random, constant σ², in units of the variance."""
    recipe = _recipe(_noise((1, 256, 256)), spots=BlindSpots(percent=2.0, replace_by="uniform"), batch_size=32)
    rng = np.random.default_rng(0)

    def loss_of(what: Callable[[Tensor], Tensor]) -> float:
        recipe.module = _Stub(what)
        return float(np.mean([float(recipe.loss(rng, 0)["total"].detach()) for _ in range(10)]))

    assert loss_of(lambda x: x) == pytest.approx(2.0, rel=0.08)
    assert loss_of(torch.zeros_like) == pytest.approx(1.0, rel=0.08)


def test_statistics_are_those_of_all_images_and_undo_each_other() -> None:
    """T-V8."""
    images = [_noise(seed=1), NoisyImage(_noise(seed=2).pixels * 3.0, "brighter")]
    net = DenoisingNetwork(width=4)
    N2VRecipe(net, images, N2VTraining(**SMALL))
    pixels = np.concatenate([image.pixels.ravel() for image in images])
    assert float(net.mean) == pytest.approx(pixels.mean(), rel=1e-5)
    assert float(net.std) == pytest.approx(pixels.std(), rel=1e-5)
    back = (pixels - net.mean.numpy()) / net.std.numpy() * net.std.numpy() + net.mean.numpy()
    assert np.allclose(back, pixels, atol=1e-6)


def test_what_is_kept_aside_is_never_a_target_of_the_training_and_always_one_of_the_validation() -> None:
    pixels = np.arange(96 * 96, dtype=np.float32).reshape(1, 96, 96)  # each value says where it is
    recipe = _recipe(NoisyImage(pixels, "places"), holdout_fraction=0.3, spots=BlindSpots(percent=5.0))
    mean, std = float(recipe.network.mean), float(recipe.network.std)
    held_out = recipe._held_out[0]
    assert 0.2 < held_out.mean() < 0.4

    def places(wanted: np.ndarray) -> np.ndarray:
        return np.rint(wanted * std + mean).astype(int)

    learned = [places(recipe._draw(np.random.default_rng(i)).wanted) for i in range(60)]
    assert not held_out.ravel()[np.concatenate(learned)].any()
    scored = np.concatenate([places(batch.wanted.numpy()) for batch in recipe._validation])
    assert held_out.ravel()[scored].all()


def test_the_same_numbers_give_the_same_batch_and_validation_never_changes() -> None:
    recipe = _recipe()
    first, again, other = (recipe.loss(np.random.default_rng([1, seed]), 0)["total"].detach() for seed in (2, 2, 3))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert recipe.validate() == recipe.validate()
    assert recipe.module.training, "validation hands the network back as it was"


@pytest.mark.parametrize("structure", ["none", "horizontal"])
def test_line_structures_are_never_turned_on_their_side(structure: str) -> None:
    ramp = np.broadcast_to(np.arange(64, dtype=np.float32), (1, 64, 64)).copy()  # rows all alike
    reach = 0 if structure == "none" else 2
    recipe = _recipe(NoisyImage(ramp, "ramp"), spots=BlindSpots(structure=structure, reach_px=reach))  # type: ignore[arg-type]
    is_turned = []
    for i in range(40):
        patch = recipe._draw(np.random.default_rng(i)).blinded[0]
        is_turned.append(np.median(np.abs(np.diff(patch, axis=0))) > np.median(np.abs(np.diff(patch, axis=1))))
    assert any(is_turned) is (structure == "none")


def test_noise_is_added_before_blind_spots_and_known_to_the_statistics() -> None:
    from scipy.ndimage import gaussian_filter

    clean = gaussian_filter(np.random.default_rng(0).random((1, 96, 96)), (0, 3, 3)).astype(np.float32)
    clean = (clean - clean.min()) / np.ptp(clean)
    settings = N2VTraining(**SMALL, noise=NoiseRange(photons=(5.0, 5.0), read_sigma=(0.2, 0.2)))
    recipe = N2VRecipe(DenoisingNetwork(width=4, statistics="image"), [NoisyImage(clean, "a")], settings)
    patches = [recipe._draw(np.random.default_rng(i)) for i in range(60)]
    assert np.mean([np.std(p.blinded) for p in patches]) == pytest.approx(1.0, abs=0.15)
    wiggle = [np.std(np.diff(p.blinded[0], axis=1)) for p in patches]
    assert np.median(wiggle) > 0.5, "most of the variance is noise"


def test_volumes_and_channels_of_any_size_are_cut_to_the_grid() -> None:
    net = DenoisingNetwork(n_channels=2, width=4, n_dims=3)
    recipe = N2VRecipe(net, [_noise((2, 7, 40, 37))], N2VTraining(patch_depth=16, **SMALL))
    assert recipe._draw(np.random.default_rng(0)).blinded.shape == (2, 4, 32, 32)
    assert torch.isfinite(recipe.loss(np.random.default_rng(0), 0)["total"])
    assert set(recipe.validate()) == {"total", "channel_0", "channel_1"}


def test_images_of_different_size_make_one_batch() -> None:
    recipe = N2VRecipe(DenoisingNetwork(width=4), [_noise((1, 20, 90)), _noise((1, 64, 64))], N2VTraining(**SMALL))
    for i in range(6):
        assert torch.isfinite(recipe.loss(np.random.default_rng(i), 0)["total"])
    assert np.isfinite(recipe.validate()["total"])


def test_an_image_of_one_place_keeps_nothing_aside_and_is_validated_as_a_whole() -> None:
    recipe = _recipe(_noise((1, 8, 8)), n_validation=4)
    assert not recipe._held_out[0].any(), "there is no place to keep aside"
    assert np.isfinite(recipe.validate()["total"]) and torch.isfinite(recipe.loss(np.random.default_rng(0), 0)["total"])
    places = {tuple(at) for batch in recipe._validation for at in batch.at[2:].T.tolist()}
    assert len(places) > 1 and all(0 <= y < 8 and 0 <= x < 8 for y, x in places)


def test_statistics_of_each_image_need_more_than_one_grey_value() -> None:
    flat = NoisyImage(np.full((1, 32, 32), 3.0, np.float32), "flat")
    with pytest.raises(ImageError, match="“flat” has one single grey value; leave it out"):
        N2VRecipe(DenoisingNetwork(width=4, statistics="image"), [_noise(), flat], N2VTraining(**SMALL))


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        (NoisyImage(np.ones((1, 32, 32), np.float32), "flat"), "one single grey value"),
        (NoisyImage(np.ones((2, 32, 32), np.float32), "two"), "takes 1 channel"),
        (NoisyImage(np.ones((1, 3, 32), np.float32), "thin"), "needs 4 px along each axis"),
        (NoisyImage(np.full((1, 32, 32), np.nan, np.float32), "none"), "no numbers"),
    ],
)
def test_images_that_cannot_be_learned_from_are_named(image: NoisyImage, sentence: str) -> None:
    with pytest.raises(ImageError, match=sentence):
        _recipe(image)


def test_no_image_and_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ImageError, match="no image"):
        N2VRecipe(DenoisingNetwork(width=4), [], N2VTraining())
    with pytest.raises(ParameterError, match="holdout_fraction"):
        N2VTraining(holdout_fraction=0.9)
    with pytest.raises(ParameterError, match="batch 0"):
        N2VTraining(batch_size=0)


@pytest.mark.parametrize("variant", ["n2v", "n2v2"])
def test_a_short_training_beats_the_best_gaussian_filter(variant: Any) -> None:
    """§4.5 in small: more than 6 dB over the noisy image, and ahead of the Gaussian chosen by the truth."""
    from scipy.ndimage import gaussian_filter

    from napari_cellenhance.core.metrics import psnr

    rng = np.random.default_rng(0)
    y, x = np.mgrid[:96, :96]
    clean = np.zeros((96, 96), np.float32)
    for cy, cx, r in zip(rng.integers(0, 96, 14), rng.integers(0, 96, 14), rng.integers(5, 13, 14), strict=True):
        clean[(y - cy) ** 2 + (x - cx) ** 2 < r**2] = rng.uniform(0.5, 1.0)
    noisy = gaussian(clean, 0.25, rng)
    torch.manual_seed(0)
    net = DenoisingNetwork(width=12, **variant_settings(variant))
    spots = BlindSpots(percent=3.0, replace_by="median" if variant == "n2v2" else "uniform")
    recipe = N2VRecipe(net, [NoisyImage(noisy[None])], N2VTraining(batch_size=4, n_validation=8, spots=spots))
    fit(
        recipe,
        FitSettings(n_steps=120, learning_rate=5e-3, weight_decay=0.0, validate_every=40, average=0.9, n_warmup=5),
    )
    found = psnr(Denoiser(net, CPU).denoise(noisy[None])[0], clean, 1.0)
    gauss = max(psnr(gaussian_filter(noisy, s), clean, 1.0) for s in (0.7, 1.0, 1.3, 1.6, 2.0))
    assert found > psnr(noisy, clean, 1.0) + 6
    assert found > gauss
