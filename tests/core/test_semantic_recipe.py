"""The semantic filter's training, and the trained network on planes."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_cellenhance.core.crops import Background, CropSet, ObjectCrop
from napari_cellenhance.core.device import DeviceChoice
from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.models.semantic_unet import SemanticUNet
from napari_cellenhance.core.recipes.protocol import FilterInfo, Region, StrengthInfo
from napari_cellenhance.core.recipes.semantic import (
    CropPairs,
    Movie,
    MoviePairs,
    SemanticRecipe,
    SemanticTraining,
    split_crops,
)
from napari_cellenhance.core.recipes.separator import SeparateEnhancer, Separator
from napari_cellenhance.core.synthetic_pairs import Scaling, SceneSettings
from napari_cellenhance.core.training import FitSettings, fit

CPU = DeviceChoice(device="cpu", precision="float32", note="")
SCENE = SceneSettings(size_px=32, n_target=(1, 3), n_unwanted=(1, 3), outside=0.2)
EIGHT_BITS = Scaling(kind="fixed", low=0.0, high=255.0)
QUICK = SemanticTraining(batch_size=4, n_validation=8)


def _object(rng: np.random.Generator, is_disc: bool, source: str) -> ObjectCrop:
    y, x = np.mgrid[-9:10, -9:10].astype(float)
    if is_disc:
        radius = rng.uniform(4, 6)
        mask, shape = np.hypot(y, x) <= radius, 1 - 0.6 * np.hypot(y, x) ** 2 / radius**2
        shape = shape * (1 + 0.2 * np.cos(1.5 * y) * np.cos(1.5 * x))
    else:
        half = rng.uniform(1.2, 2)
        mask, shape = (np.abs(y) <= 8) & (np.abs(x) <= half), 1 - 0.6 * x**2 / half**2
    pixels = np.where(mask, 25 + rng.uniform(90, 140) * shape, 0).astype(np.float32)
    return ObjectCrop(pixels=pixels, mask=mask, source=source, box=(0, 0, 19, 19))


def _crops(n_images: int = 4, n_each: int = 6) -> CropSet:
    rng = np.random.default_rng(0)
    names = [f"image {i}" for i in range(n_images)]
    nothing = np.zeros((64, 64), bool)
    grounds = [(20 + rng.normal(0, 2, (64, 64))).astype(np.float32) for _ in names]
    return CropSet(
        target=tuple(_object(rng, True, name) for name in names for _ in range(n_each)),
        unwanted=tuple(_object(rng, False, name) for name in names for _ in range(n_each)),
        backgrounds=tuple(Background(pixels=g, mask=nothing, source=n) for g, n in zip(grounds, names, strict=True)),
    )


def _movie(seed: int = 0, n: int = 12, side: int = 48) -> np.ndarray:
    rng = np.random.default_rng(seed)
    frames = np.full((n, 1, side, side), 0.8) + rng.normal(0, 0.01, (n, 1, side, side))
    for t in range(n):
        y, x = rng.integers(0, side - 8, 2)
        frames[t, 0, y : y + 8, x : x + 8] -= 0.4
    return frames.astype(np.float32)


# --- splits ----------------------------------------------------------------------------------


def test_whole_images_are_kept_aside() -> None:
    learned, kept, is_by_source = split_crops(_crops(), 0.25, seed=0)
    assert is_by_source and len(kept.sources) == 1 and not set(kept.sources) & set(learned.sources)
    assert len(learned.target) == 18 and len(kept.backgrounds) == 1
    assert split_crops(_crops(), 0.25, seed=0)[1].sources == kept.sources


def test_crops_of_a_single_image_are_split_by_themselves() -> None:
    learned, kept, is_by_source = split_crops(_crops(n_images=1), 0.3, seed=0)
    assert not is_by_source and len(kept.target) == 2 and len(learned.target) == 4
    assert not {id(one) for one in kept.target} & {id(one) for one in learned.target}
    assert kept.backgrounds == learned.backgrounds
    with pytest.raises(ImageError, match="mark more"):
        split_crops(replace(_crops(), target=_crops().target[:1]), 0.2, 0)


def test_an_image_with_the_only_unwanted_objects_is_not_kept_aside() -> None:
    whole = _crops()
    crops = replace(whole, unwanted=tuple(one for one in whole.unwanted if one.source == "image 2"))
    learned, kept, is_by_source = split_crops(crops, 0.25, seed=0)
    assert learned.unwanted and kept.unwanted and not is_by_source


# --- learning --------------------------------------------------------------------------------


def test_c17_overlapping_objects_of_two_kinds_come_apart() -> None:
    training = SemanticTraining(loss="smooth_l1_beta1", batch_size=4, n_validation=24)  # learns faster
    pairs = CropPairs(_crops(), replace(SCENE, is_taken_apart=True), EIGHT_BITS, training, seed=0)
    torch.manual_seed(0)
    recipe = SemanticRecipe(SemanticUNet(n_out=3, width=8), pairs, training)
    settings = FitSettings(n_steps=120, learning_rate=4e-3, weight_decay=0, n_warmup=5, validate_every=120)
    result = fit(recipe, settings)
    given = pairs.scores(np.stack([pair.first.image for pair in pairs.aside]))
    row = result.state.history[-1]
    assert 1 - row["val_correlation"] < 0.75 * (1 - given["correlation"]), (
        "objects that were never seen, texture and all"
    )
    assert row["val_leak"] < 0.5 < given["leak"]
    images = np.stack([pair.first.image for pair in pairs.aside])
    with torch.inference_mode():
        target = recipe.network(torch.from_numpy(images)).numpy()[:, :1]
    unwanted = np.stack([pair.first.unwanted for pair in pairs.aside])
    before, after = (np.corrcoef(x.ravel(), unwanted.ravel())[0, 1] for x in (images, images - target))
    assert after > before + 0.05, "and the remainder shows the others"


def test_frames_teach_what_stands_still() -> None:
    movies = [Movie(_movie(i), f"movie {i}") for i in range(4)]
    training = replace(QUICK, loss="smooth_l1_beta1")  # learns faster
    pairs = MoviePairs(movies, 1, 32, "dark", training, seed=0)
    assert len(pairs.aside_names) == 1 and not pairs.is_split_inside
    given = pairs.scores(np.stack([first for first, _ in pairs.validation()]))
    assert given["ghost"] == pytest.approx(1.0) and given["scene_error"] < 0.02
    torch.manual_seed(0)
    recipe = SemanticRecipe(SemanticUNet(width=6), pairs, training)
    result = fit(recipe, FitSettings(n_steps=80, learning_rate=5e-3, weight_decay=0, n_warmup=5, validate_every=80))
    assert abs(result.state.history[-1]["val_ghost"]) < 0.75


def test_the_last_frames_of_a_single_movie_are_kept_aside() -> None:
    pairs = MoviePairs([Movie(_movie(), "only")], 2, 64, "dark", QUICK, seed=0)
    assert pairs.is_split_inside and pairs.patch_px == 32 and [len(held) for held in pairs.held] == [3]
    with pytest.raises(ImageError, match="at least 6 are needed"):
        MoviePairs([Movie(_movie(n=5), "only")], 2, 32, "dark", QUICK, seed=0)


@pytest.mark.parametrize("loss", ["l1", "smooth_l1", "smooth_l1_beta1"])
def test_batches_are_those_of_the_generator(loss: str) -> None:
    training = replace(QUICK, loss=loss)  # type: ignore[arg-type]
    pairs = CropPairs(_crops(), SCENE, EIGHT_BITS, training, seed=0)
    recipe = SemanticRecipe(SemanticUNet(width=3), pairs, training)
    first, again = (float(recipe.loss(np.random.default_rng(3), 0)["total"].detach()) for _ in range(2))
    assert first == again > 0
    assert ("mae" in recipe.loss(np.random.default_rng(3), 0)) is (loss != "l1")
    scores = recipe.validate()
    assert scores == recipe.validate() and {"total", "correlation", "psnr_db", "leak", "f1"} <= set(scores)


def test_scores_are_best_for_the_truth() -> None:
    pairs = CropPairs(_crops(), SCENE, EIGHT_BITS, replace(QUICK, n_validation=12), seed=1)
    truth = np.stack([pair.first.target for pair in pairs.aside])
    best, given = pairs.scores(truth), pairs.scores(np.stack([pair.first.image for pair in pairs.aside]))
    assert best["correlation"] == pytest.approx(1) and best["psnr_db"] > 100 and abs(best["leak"]) < 0.05
    assert given["leak"] == pytest.approx(1, abs=0.1) and best["f1"] > given["f1"]


def test_scenes_without_wanted_objects_have_no_correlation() -> None:
    pairs = CropPairs(_crops(), SCENE, EIGHT_BITS, replace(QUICK, n_validation=6), seed=1)
    found = np.stack([pair.first.image for pair in pairs.aside])
    rest = copy.copy(pairs)
    rest.aside = pairs.aside[1:]
    bare = replace(pairs.aside[0].first, target=np.zeros_like(pairs.aside[0].first.target))
    pairs.aside = [replace(pairs.aside[0], first=bare), *pairs.aside[1:]]
    with_bare, without = pairs.scores(found), rest.scores(found[1:])
    assert (with_bare["correlation"], with_bare["psnr_db"]) == (without["correlation"], without["psnr_db"])
    assert with_bare["leak"] != without["leak"], "what is left of unwanted objects is told of every scene"


def test_colours_have_a_network_of_their_own() -> None:
    grey = _crops()
    crops = CropSet(
        target=tuple(replace(one, pixels=np.repeat(one.pixels[..., None], 3, 2)) for one in grey.target),
        unwanted=tuple(replace(one, pixels=np.repeat(one.pixels[..., None], 3, 2)) for one in grey.unwanted),
    )
    pairs = CropPairs(crops, replace(SCENE, is_product=True), EIGHT_BITS, QUICK, seed=0)
    assert (pairs.n_in, pairs.n_out) == (3, 3)
    recipe = SemanticRecipe(SemanticUNet(n_in=3, n_out=3, width=3), pairs, QUICK)
    assert np.isfinite(list(recipe.validate().values())).all()
    with pytest.raises(ParameterError, match="3 to 3"):
        SemanticRecipe(SemanticUNet(width=3), pairs, QUICK)


@pytest.mark.parametrize("wrong", [{"loss": "l2"}, {"batch_size": 0}, {"validation_fraction": 0.9}])
def test_settings_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ParameterError):
        SemanticTraining(**wrong)  # type: ignore[arg-type]


# --- on planes -------------------------------------------------------------------------------


@pytest.fixture
def network() -> SemanticUNet:
    torch.manual_seed(0)
    return SemanticUNet(width=3)


def test_tiles_do_not_show(network: SemanticUNet) -> None:
    plane = np.random.default_rng(0).random((1, 403, 70)).astype(np.float32)
    before = plane.copy()
    separator = Separator(network, CPU)
    whole = separator.separate(plane)
    tiles = separator.separate(plane, tile_px=64)
    assert separator.halo_px == 160 and separator.n_tiles((403, 70), 64) == 14 and separator.n_tiles((403, 70)) == 1
    np.testing.assert_allclose(tiles, whole, atol=1e-5)
    window = separator.separate(plane, region=Region(131, 190, 5, 60))
    np.testing.assert_allclose(window, whole[:, 131:190, 5:60], atol=1e-5)
    np.testing.assert_array_equal(plane, before)


def test_bad_planes_are_refused(network: SemanticUNet) -> None:
    separator = Separator(network, CPU)
    for wrong in (np.zeros((2, 32, 32)), np.zeros((32, 32)), np.zeros((1, 0, 32))):
        with pytest.raises(ImageError, match="does not fit the model"):
            separator.separate(wrong.astype(np.float32))
    with pytest.raises(ImageError, match="no numbers"):
        separator.separate(np.full((1, 32, 32), np.nan, np.float32))


def test_as_a_filter_the_strength_fades(network: SemanticUNet) -> None:
    strength = StrengthInfo(label="Strength", help="", default=1, maximum=1)
    info = FilterInfo(id="mine", title="Mine", group="Keep only…", summary="", strength=strength)
    enhancer = SeparateEnhancer(network, info, CPU)
    plane = np.random.default_rng(0).random((40, 50)).astype(np.float32)
    region = Region(3, 30, 4, 44)
    features = enhancer.encode(plane, region, None)
    np.testing.assert_array_equal(enhancer.decode(features, 0.0), plane[region.slices])
    whole = Separator(network, CPU).separate(plane[None])[0]
    np.testing.assert_allclose(enhancer.decode(features, 1.0), whole[region.slices], atol=1e-6)
    half = enhancer.decode(features, 0.5)
    np.testing.assert_allclose(half, (plane + whole)[region.slices] / 2, atol=1e-6)
    with pytest.raises(ImageError, match="grey planes"):
        SeparateEnhancer(SemanticUNet(n_in=3, n_out=3, width=2), info, CPU)
