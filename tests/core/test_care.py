"""CARE: network, likelihood, patches, split, training, restoring, calibration (T-C1 to T-C5, T-C8)."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from napari_cellenhance.core.device import DeviceChoice
from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.losses.laplace import laplace_nll
from napari_cellenhance.core.models.csb_unet import CSBUNet
from napari_cellenhance.core.normalize import fit_normalizer
from napari_cellenhance.core.paired_patches import PatchPlaces, PercentileCurve
from napari_cellenhance.core.recipes.care import (
    CarePair,
    CareRecipe,
    CareTraining,
    calibration_of,
    split_groups,
    within_half,
)
from napari_cellenhance.core.recipes.protocol import Enhancer, FilterInfo, StrengthInfo
from napari_cellenhance.core.recipes.restorer import RestoreEnhancer, Restorer
from napari_cellenhance.core.tiling import Region
from napari_cellenhance.core.training import FitSettings, fit

CPU = DeviceChoice(device="cpu", precision="float32", note="")
SMALL = CareTraining(patch_px=16, batch_size=4, n_validation=6, threshold=0.0)
INFO = FilterInfo(
    id="c", title="C", group="Restoration", summary="", strength=StrengthInfo(label="", help="", default=1, maximum=1)
)


def _network(**settings: Any) -> CSBUNet:
    torch.manual_seed(1)
    known = {"is_residual": True, "is_probabilistic": True, "has_norm": False, "kernel_px": 3, "width": 4}
    return CSBUNet(**(known | settings)).eval()


def _pairs(n: int = 5, levels: int = 2, shape: tuple[int, ...] = (32, 36), seed: int = 0) -> list[CarePair]:
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    found = []
    for i in range(n):
        clean = gaussian_filter(rng.random(shape), (0,) * (len(shape) - 2) + (2, 2)).astype(np.float32)
        clean = (clean - clean.min()) / np.ptp(clean)
        for k in range(levels):
            poor = (100 + 40 * clean + rng.normal(0, 4 * (k + 1), shape)).astype(np.float32)
            found.append(CarePair(poor, clean, f"image {i}", f"image {i} level {k}"))
    return found


# --- network and likelihood ------------------------------------------------------------------


def test_t_c1_the_network_has_the_published_number_of_parameters() -> None:
    net = CSBUNet(is_residual=True, is_probabilistic=True, has_norm=False, kernel_px=5)
    assert sum(p.numel() for p in net.parameters()) == 923_010
    volumes = CSBUNet(is_residual=True, is_probabilistic=True, has_norm=False, kernel_px=3, n_dims=3)
    assert sum(p.numel() for p in volumes.parameters()) == 996_802


@pytest.mark.parametrize(
    ("mean", "scale", "target", "expected"),
    [(0, 1, 0, 0.693147), (0.5, 0.1, 0.7, 0.390562), (0.2, 0.05, 0.2, -2.302585), (1, 0.5, 0, 2.0)],
)
def test_t_c2_the_likelihood_has_the_worked_values(mean: float, scale: float, target: float, expected: float) -> None:
    values = [torch.tensor([v], dtype=torch.float64) for v in (mean, scale, target)]
    assert float(laplace_nll(*values)) == pytest.approx(expected, abs=1e-6)


def test_t_c2_the_best_scale_is_the_error() -> None:
    scale = torch.tensor([0.3], dtype=torch.float64, requires_grad=True)
    laplace_nll(torch.tensor([1.0]).double(), scale, torch.tensor([1.3]).double()).backward()  # type: ignore[no-untyped-call]
    assert scale.grad is not None and abs(float(scale.grad)) < 1e-5


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_a_power_of_the_scale_weighs_the_pull_on_the_mean_but_not_the_optimum(power: float) -> None:
    mean = torch.tensor([0.0, 0.0], dtype=torch.float64, requires_grad=True)
    scale = torch.tensor([0.01, 0.1], dtype=torch.float64, requires_grad=True)
    target = torch.tensor([0.01, 0.1], dtype=torch.float64)
    laplace_nll(mean, scale, target, power).backward()  # type: ignore[no-untyped-call]
    assert mean.grad is not None and scale.grad is not None
    assert float(mean.grad[0] / mean.grad[1]) == pytest.approx(10 ** (1 - power))
    assert float(scale.grad.abs().max()) < 1e-9, "the best scale is the error, as without"


def test_validations_are_without_the_power_of_the_scale() -> None:
    pairs = _pairs()
    found = [
        CareRecipe(_network(), pairs, replace(SMALL, scale_power=power), seed=0).validate()["total"]
        for power in (0.0, 1.0)
    ]
    assert found[0] == found[1]
    with pytest.raises(ParameterError, match="scale_power"):
        replace(SMALL, scale_power=2.0)


def test_t_c3_the_scale_never_falls_below_its_floor() -> None:
    net = _network()
    with torch.no_grad():
        assert net.scale_head is not None and net.scale_head.bias is not None
        net.scale_head.bias.fill_(-200.0)
        found = net(torch.randn(1, 1, 16, 16))
    assert float(found[:, 1].min()) >= 1e-3 * (1 - 1e-6)
    restored = Restorer(net, CPU).restore(np.zeros((16, 16), np.float32))
    assert restored.scale is not None and float(restored.scale.min()) >= 1e-3 * (1 - 1e-6)


def test_t_c4_without_head_the_mean_is_the_input() -> None:
    net = _network()
    with torch.no_grad():
        net.head.weight.zero_()
        net.head.bias.zero_()  # type: ignore[union-attr]
    image = np.random.default_rng(0).random((21, 30)).astype(np.float32)
    assert np.allclose(Restorer(net, CPU).restore(image).mean, image, atol=1e-6)


def test_t_c5_percentiles_are_those_of_the_example_and_the_inverse_is_exact() -> None:
    normalizer = fit_normalizer("percentile", np.arange(1001.0), lo=3, hi=99.8)
    assert (normalizer.parameters["p_low"], normalizer.parameters["p_high"]) == (30.0, 998.0)
    found = normalizer.normalize(np.array([0.0, 500.0, 1000.0]))
    assert np.allclose(found, [-0.030992, 0.485537, 1.002066], atol=1e-6)
    assert np.allclose(normalizer.denormalize(found), [0, 500, 1000], atol=1e-3)


# --- restoring -------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel_px", [3, 5])
def test_tiles_and_windows_equal_the_whole_plane(kernel_px: int) -> None:
    restorer = Restorer(_network(kernel_px=kernel_px), CPU)
    image = np.random.default_rng(0).random((93, 130)).astype(np.float32)
    whole, tiled = restorer.restore(image), restorer.restore(image, tile_px=32)
    region = Region(17, 60, 41, 119)
    part = restorer.restore(image, region=region, tile_px=24)
    for name in ("mean", "scale"):
        full = getattr(whole, name)
        assert full.shape == image.shape and full.dtype == np.float32
        assert np.abs(getattr(tiled, name) - full).max() < 1e-5
        assert np.abs(getattr(part, name) - full[17:60, 41:119]).max() < 1e-5


def test_volumes_are_restored_as_volumes() -> None:
    restorer = Restorer(_network(n_dims=3), CPU)
    image = np.random.default_rng(0).random((9, 20, 17)).astype(np.float32)
    whole = restorer.restore(image)
    assert whole.mean.shape == image.shape
    assert np.abs(restorer.restore(image, tile_px=8, tile_planes=4).mean - whole.mean).max() < 1e-5
    with pytest.raises(ImageError, match="3 dimensions"):
        restorer.restore(image[0])


@pytest.mark.parametrize("n_times", [2, 3])
def test_t_c8_several_applications_are_a_composition(n_times: int) -> None:
    restorer = Restorer(_network(), CPU)
    image = np.random.default_rng(0).random((61, 70)).astype(np.float32)
    once = image
    for _ in range(n_times):
        step = restorer.restore(once)
        once = step.mean
    found = restorer.restore(image, n_times=n_times)
    assert np.abs(found.mean - once).max() < 1e-5
    assert found.scale is not None and step.scale is not None
    assert np.abs(found.scale - step.scale).max() < 1e-5, "the scale of the last time"
    region = Region(30, 41, 3, 20)
    part = restorer.restore(image, n_times=n_times, region=region, tile_px=8)
    assert np.abs(part.mean - once[region.slices]).max() < 1e-5
    with pytest.raises(ParameterError, match="applied 4 times"):
        restorer.restore(image, n_times=4)


def test_the_scale_is_calibrated_by_its_factor_the_mean_is_not() -> None:
    net, image = _network(), np.random.default_rng(0).random((16, 16)).astype(np.float32)
    plain, doubled = Restorer(net, CPU).restore(image), Restorer(net, CPU, 2.0).restore(image)
    assert plain.scale is not None and doubled.scale is not None
    assert np.allclose(doubled.scale, 2 * plain.scale) and np.array_equal(doubled.mean, plain.mean)
    assert Restorer(_network(is_probabilistic=False), CPU).restore(image).scale is None


def test_it_is_a_filter_whose_strength_blends() -> None:
    net, plane = _network(), np.random.default_rng(0).random((40, 44)).astype(np.float32)
    enhancer = RestoreEnhancer(net, INFO, CPU)
    assert isinstance(enhancer, Enhancer)
    region = Region(4, 30, 8, 41)
    features = enhancer.encode(plane, region, enhancer.calibrate([plane], lambda: None))
    assert np.array_equal(enhancer.decode(features, 0.0), plane[region.slices])
    full = Restorer(net, CPU).restore(plane).mean[region.slices]
    assert np.allclose(enhancer.decode(features, 1.0), full, atol=1e-5)
    assert np.allclose(enhancer.decode(features, 0.5), (full + plane[region.slices]) / 2, atol=1e-5)
    with pytest.raises(ImageError, match="single planes"):
        RestoreEnhancer(_network(n_dims=3), INFO, CPU)


# --- patches and the split -------------------------------------------------------------------


def test_patches_lie_where_there_is_something_bright() -> None:
    image = np.zeros((64, 64), np.float32)
    image[40:44, 10:14] = 1.0
    places = PatchPlaces(image, (16, 16), 0.4)
    rng = np.random.default_rng(0)
    assert all(image[tuple(slice(s.start + 3, s.stop - 3) for s in places.draw(rng))].any() for _ in range(100))
    anywhere = PatchPlaces(image, (16, 16), 0.0)
    assert anywhere.n_eligible == 49 * 49 and places.n_eligible < 200
    assert not all(image[anywhere.draw(rng)].any() for _ in range(50))
    with pytest.raises(ImageError, match="does not fit"):
        PatchPlaces(image, (65, 16))


def test_eligible_places_are_those_of_the_definition() -> None:
    rng = np.random.default_rng(0)
    image = rng.random((20, 22)).astype(np.float32) ** 8
    limit = 0.4 * np.percentile(image.astype(float), 99.9)
    wanted = 0
    for y in range(20 - 8 + 1):
        for x in range(22 - 8 + 1):  # a window of 4 px around the middle of the patch
            wanted += image[y + 2 : y + 6, x + 2 : x + 6].max() > limit
    assert PatchPlaces(image, (8, 8), 0.4).n_eligible == wanted


def test_drawn_percentiles_are_those_of_the_whole_image() -> None:
    image = np.random.default_rng(0).normal(50, 9, (200, 200)).astype(np.float32)
    curve = PercentileCurve.of(image)
    for low, high in ((1, 99.5), (3, 99.9), (1.7, 99.63)):
        wanted = np.percentile(image.astype(float), (low, high))
        assert np.allclose(curve.at(low, high), wanted, atol=0.15)


def test_exposures_of_one_image_are_kept_aside_together() -> None:
    recipe = CareRecipe(_network(), _pairs(), SMALL, seed=3)
    aside = {pair.group for pair in recipe.kept_aside}
    learned = {source.source.part.group for source in recipe._sources}
    assert len(aside) == 1 and len(recipe.kept_aside) == 2 and not aside & learned and len(learned) == 4
    assert split_groups([str(i) for i in range(10)], 0.2, 0) == split_groups([str(i) for i in range(10)], 0.2, 0)
    assert len(split_groups([str(i) for i in range(10)], 0.2, 0)) == 2
    assert split_groups(["a", "a"], 0.2, 0) == set()


def test_a_single_image_is_split_in_space() -> None:
    pair = _pairs(1, 1, (40, 32))[0]
    recipe = CareRecipe(_network(), [pair], SMALL)
    assert recipe.is_split_in_space and recipe.kept_aside[0].clean.shape == (8, 32)
    assert np.array_equal(recipe.kept_aside[0].clean, pair.clean[32:])
    assert recipe._sources[0].source.part.clean.shape == (32, 32)
    low, high = np.percentile(pair.poor.astype(float), (2, 99.8))
    assert np.allclose(recipe.normalised_aside[0][0], (pair.poor[32:] - low) / (high - low), atol=1e-4)


def test_places_can_be_drawn_once() -> None:
    recipe = CareRecipe(_network(), _pairs(2, 1), replace(SMALL, n_patches=3, has_symmetries=False), seed=1)
    rng = np.random.default_rng(0)
    windows = {tuple((s.start, s.stop) for s in recipe._sources[0].window(rng)) for _ in range(60)}
    assert 2 <= len(windows) <= 3 and recipe.n_eligible == 3


def test_both_members_of_a_patch_are_normalised_by_the_same_ranks_and_turned_alike() -> None:
    pairs = [CarePair(100 + 40 * pair.clean, pair.clean, pair.group) for pair in _pairs(2, 1)]
    recipe = CareRecipe(_network(), pairs, SMALL)
    rng = np.random.default_rng(0)
    ranges = set()
    for _ in range(10):
        poor, clean = recipe.random_patch(rng)
        assert np.allclose(poor, clean, atol=1e-4), "an affine change of grey values is undone"
        ranges.add(round(float(np.ptp(clean)), 6))
    assert len(ranges) > 5
    fixed = CareRecipe(_network(), pairs, replace(SMALL, percentiles="fixed", has_symmetries=False))
    values = fixed.random_patch(rng)[1]
    source = fixed._sources[0].source
    low, high = np.percentile(source.part.clean.astype(float), (2, 99.8))
    whole = (source.part.clean - low) / (high - low)
    assert any(np.allclose(whole[y : y + 16, x : x + 16], values, atol=1e-4) for y in range(17) for x in range(21))


@pytest.mark.parametrize("ranks", ["fixed", "drawn"])
def test_a_clean_image_can_be_brought_to_the_grey_values_of_the_poor_one(ranks: Any) -> None:
    clean = _pairs(2, 1)
    rng = np.random.default_rng(4)
    pairs = []
    for i, pair in enumerate(clean):
        noise = rng.normal(0, 0.3, pair.clean.shape).astype(np.float32)
        pairs.append(CarePair(40 + 7 * (pair.clean + noise), 10 + (3 + 50 * i) * pair.clean, pair.group))
    settings = replace(SMALL, percentiles=ranks, clean_scale="poor", has_symmetries=False)
    recipe = CareRecipe(_network(), pairs, settings)
    for _ in range(5):
        poor, target = recipe.random_patch(rng)
        slope, offset = np.polyfit(target.ravel(), poor.ravel(), 1)
        assert abs(slope - 1) < 0.25 and abs(offset) < 0.25, "a grey value of the target is one of the poor image"
    own = CareRecipe(_network(), pairs, replace(settings, clean_scale="own"))
    poor, target = own.random_patch(rng)
    assert np.polyfit(target.ravel(), poor.ravel(), 1)[0] < 0.75, "noise widens the range of the poor image"
    upside_down = [CarePair(-pair.clean, pair.clean, pair.group) for pair in clean]
    with pytest.raises(ImageError, match="have nothing in common"):
        CareRecipe(_network(), upside_down, settings)
    with pytest.raises(ParameterError, match="clean_scale is 'both'"):
        replace(SMALL, clean_scale="both")  # type: ignore[arg-type]
    assert CareTraining().clean_scale == "poor"


def test_pairs_that_have_nothing_in_common_are_left_out_and_many_are_refused() -> None:
    pairs = [CarePair(2 * pair.clean, pair.clean, pair.group, f"pair {i}") for i, pair in enumerate(_pairs(5, 1))]
    beside = [CarePair(-pair.clean, pair.clean, f"beside {i}", f"beside {i}") for i, pair in enumerate(pairs)]
    settings = replace(SMALL, clean_scale="poor")
    recipe = CareRecipe(_network(), [*pairs, *beside[:2]], settings)
    assert recipe.left_out == ("beside 0", "beside 1")
    seen = {source.source.part.name for source in recipe._sources} | {pair.name for pair in recipe.kept_aside}
    assert seen == {pair.name for pair in pairs}
    assert CareRecipe(_network(), [*pairs, *beside[:2]], replace(SMALL, clean_scale="own")).left_out == ()
    with pytest.raises(ImageError, match="in 5 of 10 pairs, such as “beside 0”"):
        CareRecipe(_network(), [*pairs, *beside], settings)


@pytest.mark.parametrize("scale", ["own", "poor"])
def test_patches_of_a_training_lie_where_the_clean_image_is_bright(scale: Any) -> None:
    clean = np.full((64, 64), 100.0, np.float32)
    clean[46:54, 46:54] = 200
    noise = np.random.default_rng(1).normal(0, 5, clean.shape)
    pairs = [CarePair((500 + 3 * clean + noise).astype(np.float32), clean, group) for group in "ab"]
    settings = replace(SMALL, clean_scale=scale, percentiles="fixed", threshold=0.4, has_symmetries=False)
    recipe = CareRecipe(_network(), pairs, settings)
    rng = np.random.default_rng(2)
    assert all(np.ptp(recipe.random_patch(rng)[1]) > 0.5 for _ in range(20))


# --- learning --------------------------------------------------------------------------------


def test_it_learns_to_remove_noise_and_validates_on_images_it_never_saw() -> None:
    recipe = CareRecipe(_network(width=8), _pairs(6, 1, seed=2), replace(SMALL, batch_size=8), seed=0)
    before = recipe.validate()
    assert set(before) == {"total", "mae", "mse", "mae_of_input", "within_half"}
    settings = FitSettings(n_steps=40, learning_rate=4e-3, validate_every=20, schedule="plateau", weight_decay=0.0)
    fit(recipe, settings)
    after = recipe.validate()
    assert after["total"] < before["total"] - 0.3 and after["mae"] < 0.95 * before["mae"]
    same = CareRecipe(_network(width=8), _pairs(6, 1, seed=2), replace(SMALL, batch_size=8), seed=0)
    assert same.validate() == before, "patches of the validation never change"


@pytest.mark.parametrize("loss", ["mae", "mse"])
def test_without_a_likelihood_it_is_a_plain_error(loss: str) -> None:
    settings: Any = replace(SMALL, loss=loss)
    recipe = CareRecipe(_network(is_probabilistic=False), _pairs(2, 1), settings)
    found = recipe.loss(np.random.default_rng(0), 0)
    assert float(found["total"].detach()) == pytest.approx(float(found[loss])) and set(recipe.validate()) == {
        "total", "mae", "mse", "mae_of_input"
    }  # fmt: skip
    with pytest.raises(ParameterError, match="two heads"):
        CareRecipe(_network(is_probabilistic=False), _pairs(2, 1), SMALL)


def test_volumes_are_learned_in_blocks() -> None:
    recipe = CareRecipe(_network(n_dims=3), _pairs(2, 1, (10, 20, 24)), replace(SMALL, patch_depth=8, batch_size=2))
    recipe.loss(np.random.default_rng(0), 0)["total"].backward()  # type: ignore[no-untyped-call]
    assert recipe.random_patch(np.random.default_rng(0))[0].shape == (8, 16, 16)


def test_pairs_that_cannot_be_learned_from_are_named() -> None:
    good = _pairs(2, 1)
    for wrong, text in (
        (replace(good[0], poor=good[0].poor[:20]), "has the shapes"),
        (replace(good[0], poor=np.ones((32, 36), np.float32)), "one single grey value"),
        (replace(good[0], poor=np.full((32, 36), np.nan, np.float32)), "no numbers"),
        (replace(good[0], poor=good[0].poor[:3], clean=good[0].clean[:3]), "3 × 36 px"),
    ):
        with pytest.raises(ImageError, match=text):
            CareRecipe(_network(), [wrong, good[1]], SMALL)
    low = replace(good[0], poor=good[0].poor[:4], clean=good[0].clean[:4], name="low")
    with pytest.raises(ImageError, match="“low” has 4 rows, too few to keep some aside"):
        CareRecipe(_network(), [low], SMALL)
    with pytest.raises(ImageError, match="no pair"):
        CareRecipe(_network(), [], SMALL)


def test_calibration_puts_half_of_the_errors_within() -> None:
    rng = np.random.default_rng(0)
    scale = rng.uniform(0.1, 1, 50_001)
    error = rng.laplace(0, 1, 50_001) * scale
    assert within_half(error, scale) == pytest.approx(0.5, abs=0.01)
    assert calibration_of(error, 0.4 * scale) == pytest.approx(2.5, rel=0.02)
    assert within_half(error, calibration_of(error, 0.4 * scale) * 0.4 * scale) == pytest.approx(0.5, abs=1e-3)
    assert math.isclose(calibration_of(np.array([1.0]), np.array([1.0])), 1 / math.log(2))
