"""StarDist's recipe, the search for its threshold, and the trained network on planes (METHODS §5.5, §7, T-I3)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from napari_cellenhance.core.device import DeviceChoice
from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.instances import match_instances, overlaps
from napari_cellenhance.core.models.stardist import StarDist, StarOutput
from napari_cellenhance.core.recipes.stardist import (
    InstanceImage,
    StarDistRecipe,
    StarDistTraining,
    best_threshold,
    split_instances,
)
from napari_cellenhance.core.recipes.stardist_segmenter import StarDistSegmenter, StarSegmentation
from napari_cellenhance.core.star_shapes import star_targets
from napari_cellenhance.core.tiling import Region
from napari_cellenhance.core.training import FitSettings, TrainableRecipe, fit

CPU = DeviceChoice(device="cpu", precision="float32", note="")
SETTINGS = StarDistTraining(crop_px=32, batch_size=2)
PLAIN = replace(SETTINGS, has_symmetries=False, intensity_fraction=0.0)


def _scene(seed: int = 0, height: int = 72, width: int = 80) -> InstanceImage:
    """Bright discs on a noisy ground."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((height, width), np.int32)
    yy, xx = np.mgrid[:height, :width]
    for y in range(9, height, 18):
        for x in range(9, width, 18):
            labels[(yy - y) ** 2 + (xx - x) ** 2 < rng.integers(20, 50)] = labels.max() + 1
    image = 0.2 + 0.6 * (labels > 0) + rng.normal(0, 0.05, labels.shape)
    return InstanceImage(image.astype(np.float32), labels, f"scene {seed}")


def _net(grid: int = 1, depth: int = 1, **more: Any) -> StarDist:
    torch.manual_seed(0)
    return StarDist(grid=grid, depth=depth, width=8, n_features=16, **more)


def _wild(net: StarDist) -> StarDist:
    """Weights under which distant pixels matter, and rays of some pixels."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for layer in net.modules():
            if isinstance(layer, nn.Conv2d):
                layer.weight.normal_(0, (2.0 / layer.weight[0].numel()) ** 0.5, generator=generator)
        net.distances.bias.fill_(5.0)
    return net


def _recipe(net: StarDist | None = None, settings: StarDistTraining = SETTINGS, **more: Any) -> StarDistRecipe:
    return StarDistRecipe(net or _net(), more.pop("images", [_scene()]), settings, **more)


# --- images and batches ----------------------------------------------------------------------


def test_crops_hold_objects_and_their_labels_lie_on_them() -> None:
    recipe = _recipe(settings=replace(SETTINGS, object_fraction=1.0, intensity_fraction=0.0))
    rng = np.random.default_rng(0)
    for crop in [recipe._draw(rng) for _ in range(20)]:
        assert crop.image.shape == crop.labels.shape == (32, 32) and crop.has_objects
        assert crop.image[crop.labels > 0].mean() > crop.image[crop.labels == 0].mean() + 0.4


def test_crops_come_from_labelled_pixels_only() -> None:
    scene = _scene()
    labels = np.full_like(scene.labels, -1)
    labels[5:13, 5:13] = scene.labels[5:13, 5:13]
    recipe = _recipe(
        settings=replace(SETTINGS, object_fraction=0.5, holdout_fraction=0.0),
        images=[InstanceImage(scene.image, labels), InstanceImage(scene.image, np.full_like(labels, -1))],
    )
    rng = np.random.default_rng(0)
    assert all((recipe._draw(rng).labels != -1).any() for _ in range(30))


def test_intensities_change_on_the_asked_share_and_symmetries_turn_crops() -> None:
    ramp = np.repeat(np.linspace(0, 1, 32, dtype=np.float32)[None], 32, axis=0)
    labels = np.zeros((32, 32), np.int32)
    labels[4:20, 10:14] = 1
    image = InstanceImage(ramp, labels)

    def drawn(**settings: Any) -> list[InstanceImage]:
        recipe = _recipe(settings=replace(PLAIN, holdout_fraction=0.0, **settings), images=[image])
        rng = np.random.default_rng(0)
        return [recipe._draw(rng) for _ in range(40)]

    assert all((crop.image == ramp).all() and (crop.labels == labels).all() for crop in drawn())
    turned = drawn(has_symmetries=True)
    assert len({crop.image.tobytes() for crop in turned}) == 4, "a ramp has four directions"
    assert len({crop.labels.tobytes() for crop in turned}) == 8
    changed = [not (crop.image == ramp).all() for crop in drawn(intensity_fraction=0.5)]
    assert 8 < sum(changed) < 32


def test_a_small_image_is_padded_with_unknown_pixels() -> None:
    recipe = _recipe(settings=replace(PLAIN, holdout_fraction=0.0), images=[_scene(height=20, width=25)])
    crop = recipe._draw(np.random.default_rng(0))
    assert crop.labels.shape == (32, 32) and (crop.labels == -1).sum() == 32 * 32 - 20 * 25
    assert np.isfinite(recipe.validate()["total"])


def test_the_same_generator_gives_the_same_loss() -> None:
    recipe = _recipe()
    first, again, other = (recipe.loss(np.random.default_rng(seed), 0)["total"].item() for seed in (1, 1, 2))
    assert first == again != other


def test_unknown_pixels_have_no_part_in_training() -> None:
    scene = _scene()
    labels = scene.labels.copy()
    labels[:, 40:] = -1
    spoiled = scene.image.copy()
    recipe = _recipe(images=[scene], validation=[InstanceImage(spoiled, labels)])
    every = _recipe(images=[scene], validation=[scene])
    assert recipe.validate()["total"] != every.validate()["total"]
    crop = InstanceImage(scene.image[:32, :32], np.full((32, 32), -1, np.int32))
    losses = recipe._loss([crop])
    losses["total"].backward()
    assert losses["total"].item() == 0 and not any(p.grad.any() for p in recipe.module.parameters())


@pytest.mark.parametrize("kind", [_net(), _net(2), _net(2, 2, has_norm=True)])
def test_every_parameter_is_trained(kind: StarDist) -> None:
    recipe = _recipe(kind)
    assert isinstance(recipe.module, nn.Module)
    _: TrainableRecipe = recipe
    recipe.module.train()
    losses = recipe.loss(np.random.default_rng(0), 0)
    assert set(losses) == {"total", "probability", "distance", "ground"}
    losses["total"].backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in kind.parameters())
    assert sum(bool(p.grad.any()) for p in kind.parameters()) > 0.8 * len(list(kind.parameters()))
    kind.zero_grad()


def test_bf16_gives_about_the_same_loss() -> None:
    full, half = (
        _recipe(_net(), use_bf16=use).loss(np.random.default_rng(0), 0)["total"].item() for use in (False, True)
    )
    assert half == pytest.approx(full, rel=0.05) and half != full


def test_images_or_strips_are_kept_aside() -> None:
    many = split_instances([_scene(i) for i in range(6)], fraction=0.2, seed=3)
    assert many.how == "images" and len(many.train) == 5 and len(many.validation) == 1
    assert {i.name for i in many.train}.isdisjoint(i.name for i in many.validation)
    few = split_instances([_scene(0, 60, 100), _scene(1, 100, 60)], fraction=0.2)
    assert few.how == "strips"
    assert [i.image.shape for i in few.train] == [(60, 80), (80, 60)]
    assert [i.image.shape for i in few.validation] == [(60, 20), (20, 60)]
    assert (few.validation[0].labels == _scene(0, 60, 100).labels[:, 80:]).all()
    lonely = np.zeros((40, 40), np.int32)
    lonely[3:8, 3:8] = 1
    alone = split_instances([InstanceImage(np.zeros((40, 40), np.float32), lonely)], fraction=0.2)
    assert alone.how == "none" and alone.validation == alone.train
    assert split_instances([_scene()], fraction=0.0).how == "none"
    given = _recipe(images=[_scene(0)], validation=[_scene(1)]).split
    assert given.how == "given" and given.train[0].image.shape == (72, 80) and given.validation[0].name == "scene 1"


def test_many_validation_windows_are_thinned_out() -> None:
    recipe = _recipe(settings=replace(SETTINGS, max_validation_windows=3), validation=[_scene(1, 128, 128)])
    assert len(recipe._windows) == 3
    recipe.module.train()
    scores = recipe.validate()
    assert recipe.module.training and scores["total"] > 0


def test_a_short_training_lowers_the_loss_of_images_that_were_not_learned() -> None:
    recipe = _recipe(_net(2), images=[_scene(0)], validation=[_scene(1)])
    before = recipe.validate()
    result = fit(recipe, FitSettings(n_steps=40, learning_rate=1e-2, weight_decay=0, n_warmup=5, validate_every=40))
    after = recipe.validate()
    assert result.state.best_total == pytest.approx(after["total"])
    assert after["total"] < 0.75 * before["total"] and after["distance"] < 0.8 * before["distance"]
    assert after["probability"] < 0.8 * before["probability"]


def test_images_without_objects_or_of_another_kind_are_refused() -> None:
    scene = _scene()
    with pytest.raises(ImageError, match="no object"):
        _recipe(images=[InstanceImage(scene.image, np.zeros_like(scene.labels))])
    with pytest.raises(ImageError, match="no object"):
        _recipe(images=[InstanceImage(scene.image, np.full_like(scene.labels, -1))])
    with pytest.raises(ImageError, match="validation"):
        _recipe(validation=[InstanceImage(scene.image, np.full_like(scene.labels, -1))])
    with pytest.raises(ImageError, match="same"):
        InstanceImage(scene.image, scene.labels[1:])
    with pytest.raises(ImageError, match="-1 on"):
        InstanceImage(scene.image, scene.labels - 2)
    with pytest.raises(ImageError, match="NaN"):
        InstanceImage(np.full_like(scene.image, np.nan), scene.labels)


def test_settings_out_of_range_are_refused() -> None:
    for wrong in (
        {"crop_px": 16},
        {"batch_size": 0},
        {"object_fraction": 1.2},
        {"holdout_fraction": 0.7},
        {"distance_weight": -1.0},
    ):
        with pytest.raises(ParameterError, match="expected"):
            StarDistTraining(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="such as 40"):
        _recipe(_net(2, 2), replace(SETTINGS, crop_px=36))


# --- planes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("grid", "shape"), [(1, (61, 83)), (2, (61, 83)), (2, (40, 96)), (1, (5, 70)), (2, (1, 1))])
def test_tiled_is_untiled(grid: int, shape: tuple[int, int]) -> None:
    segmenter = StarDistSegmenter(_wild(_net(grid)), CPU, engine="numpy")
    plane = np.random.default_rng(1).random(shape, dtype=np.float32)
    before = plane.copy()
    whole, tiled = segmenter.maps(plane, tile_px=512), segmenter.maps(plane, tile_px=16)
    sampled = (-(-shape[0] // grid), -(-shape[1] // grid))
    assert whole.probabilities.shape == sampled and whole.distances.shape == (32, *sampled)
    assert np.abs(whole.probabilities - tiled.probabilities).max() < 1e-5
    assert np.abs(whole.distances - tiled.distances).max() < 1e-4
    assert (plane == before).all()
    threshold = float(np.quantile(whole.probabilities, 0.8)) + 1e-4
    a, b = (segmenter.segment(plane, tile_px=tile, threshold=threshold) for tile in (512, 16))
    assert (a.labels == b.labels).mean() > 0.99
    assert a.probabilities.shape == a.labels.shape == shape and a.labels.dtype == np.uint32
    assert np.abs(a.probabilities[::grid, ::grid] - whole.probabilities).max() < 1e-6


class _Oracle(StarDist):
    """Answers with the ideal targets of a plane; the image holds the labels."""

    def forward(self, x: torch.Tensor) -> StarOutput:
        answers = [star_targets(image[0].round().int().numpy(), self.n_rays, self.grid) for image in x]
        probabilities = torch.from_numpy(np.stack([a.probabilities for a in answers]))[:, None]
        distances = torch.from_numpy(np.stack([a.distances for a in answers]))
        return StarOutput(torch.logit(probabilities, eps=1e-6), distances)


@pytest.mark.parametrize("grid", [1, 2])
def test_ideal_predictions_give_the_objects_with_labels_polygons_and_probabilities(grid: int) -> None:
    scene = _scene(0, 71, 93)
    found = StarDistSegmenter(_Oracle(grid=grid, depth=1, width=4), CPU, engine="numpy").segment(
        scene.labels.astype(np.float32)
    )
    n = int(scene.labels.max())
    assert match_instances(overlaps(scene.labels, found.labels.astype(np.int64)), 0.8).tp == n
    assert set(np.unique(found.labels)) == set(range(n + 1)) and len(found.stars) == n
    assert found.stars.polygons.shape == (n, 2, 32) and found.engine == "numpy"
    for i, polygon in enumerate(found.stars.polygons, start=1):
        rows, columns = np.nonzero(found.labels == i)
        assert abs(polygon[0].mean() - rows.mean()) < 1 and abs(polygon[1].mean() - columns.mean()) < 1
    assert (np.diff(found.stars.probabilities) <= 0).all()


def test_cells_at_the_edge_are_found_unless_the_border_is_left_out() -> None:
    labels = np.zeros((48, 48), np.float32)
    labels[0:2, 10:24], labels[20:30, 20:30] = 1, 2
    net = _Oracle(depth=1, width=4)
    assert StarDistSegmenter(net, CPU, engine="numpy").segment(labels).labels.max() == 2
    assert StarDistSegmenter(net, CPU, border=2, engine="numpy").segment(labels).labels.max() == 1


def test_nothing_found_on_an_empty_plane() -> None:
    found = StarDistSegmenter(_Oracle(depth=1, width=4), CPU).segment(np.zeros((17, 23), np.float32))
    assert isinstance(found, StarSegmentation)
    assert not found.labels.any() and len(found.stars) == 0 and found.stars.polygons.shape == (0, 2, 32)


def test_labels_have_no_gaps_where_a_star_is_covered() -> None:
    from napari_cellenhance.core.recipes.stardist_segmenter import _drawn
    from napari_cellenhance.core.star_shapes import Stars

    stars = Stars.of([[10, 10], [10, 10], [10, 30]], [[8.0] * 32, [2.0] * 32, [4.0] * 32], [0.9, 0.8, 0.7])
    labels, visible = _drawn(stars, (20, 40))
    assert set(np.unique(labels)) == {0, 1, 2} and labels[10, 30] == 2
    assert visible.probabilities.tolist() == [0.9, 0.7]


def test_the_network_is_copied_and_tiles_are_reported_and_stopped() -> None:
    net = _net()
    segmenter = StarDistSegmenter(net, CPU, threshold=1.0)
    plane = np.random.default_rng(0).random((40, 33), dtype=np.float32)
    before = segmenter.maps(plane).probabilities
    with torch.no_grad():
        net.probability.bias.fill_(3.0)
    assert (segmenter.maps(plane).probabilities == before).all()
    seen: list[Region] = []
    segmenter.segment(plane, tile_px=16, on_tile=seen.append)
    covered = np.zeros(plane.shape, int)
    for region in seen:
        covered[region.slices] += 1
    assert (covered == 1).all() and len(seen) > 1

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        segmenter.segment(plane, checkpoint=stop)


def test_bf16_is_used_where_it_is_chosen() -> None:
    plane = np.random.default_rng(0).random((32, 32), dtype=np.float32)
    full, half = (
        StarDistSegmenter(_wild(_net()), DeviceChoice(device="cpu", precision=p, note="")).maps(plane)
        for p in ("float32", "bfloat16")
    )
    difference = np.abs(full.probabilities - half.probabilities).max()
    assert 0 < difference < 0.1 and half.distances.dtype == np.float32


def test_planes_and_settings_that_cannot_be_used_are_refused() -> None:
    segmenter = StarDistSegmenter(_net(), CPU)
    with pytest.raises(ImageError, match="one plane"):
        segmenter.segment(np.zeros((3, 8, 8), np.float32))
    with pytest.raises(ImageError, match="NaN"):
        segmenter.maps(np.full((8, 8), np.nan, np.float32))
    with pytest.raises(ParameterError, match="threshold"):
        StarDistSegmenter(_net(), CPU, threshold=-0.1)


# --- threshold -----------------------------------------------------------------------------------


class _Known(StarDistSegmenter):
    """Finds given discs with given probabilities on any plane."""

    def __init__(self, labels: np.ndarray, probabilities: list[float]) -> None:
        super().__init__(_net(), CPU, engine="numpy")
        self.labels, self.known, self.n_runs = labels, probabilities, 0

    def segment(self, plane: np.ndarray, *, threshold: float | None = None, **more: Any) -> StarSegmentation:
        from napari_cellenhance.core.star_shapes import Stars

        self.n_runs += 1
        kept = [i for i, p in enumerate(self.known) if p > (threshold or 0.0)]
        labels = np.zeros(plane.shape, np.uint32)
        for new, i in enumerate(kept, start=1):
            labels[self.labels == i + 1] = new
        stars = Stars.of(np.zeros((len(kept), 2)), np.ones((len(kept), 32)), [self.known[i] for i in kept])
        return StarSegmentation(labels, np.zeros(plane.shape, np.float32), stars, "numpy")


def _blocks(*rows: int) -> np.ndarray:
    labels = np.zeros((40, 40), np.int32)
    for i, row in enumerate(rows, start=1):
        labels[row : row + 5, 5:15] = i
    return labels


def test_the_best_threshold_has_the_highest_mean_ap_and_the_lowest_of_ties_wins() -> None:
    # Three objects wanted at rows 0, 8, 16; found: those with 0.9, 0.8, 0.52 and two false ones with 0.5 and 0.2.
    segmenter = _Known(_blocks(0, 8, 16, 24, 32), [0.9, 0.8, 0.52, 0.5, 0.2])
    image = InstanceImage(np.zeros((40, 40), np.float32), _blocks(0, 8, 16))
    search = best_threshold(segmenter, [image])
    assert len(search.thresholds) == 19 and search.thresholds[0] == 0.1 and search.thresholds[-1] == 1.0
    by = dict(zip(search.thresholds, search.scores, strict=True))
    assert by[0.1] == pytest.approx(3 / 5) and by[0.2] == by[0.45] == pytest.approx(3 / 4)
    assert by[0.5] == 1.0 and by[0.55] == pytest.approx(2 / 3) and by[1.0] == 0.0
    assert search.threshold == 0.5 and segmenter.n_runs == 1, "one run serves all thresholds"
    assert best_threshold(segmenter, [image], thresholds=(0.4, 0.3, 0.25)).threshold == 0.25
    empty = InstanceImage(np.zeros((40, 40), np.float32), np.zeros((40, 40), np.int32))
    both = best_threshold(segmenter, [image, empty])
    assert both.scores[-1] == 0.5, "nothing wanted and nothing found is right"


def test_objects_where_nothing_is_labelled_do_not_count() -> None:
    truth = _blocks(0, 8, 16)
    truth[22:] = -1
    segmenter = _Known(_blocks(0, 8, 16, 24, 32), [0.9] * 5)
    search = best_threshold(segmenter, [InstanceImage(np.zeros((40, 40), np.float32), truth)])
    assert search.scores[0] == 1.0


def test_a_search_needs_labels_and_thresholds() -> None:
    segmenter = _Known(_blocks(0), [0.9])
    with pytest.raises(ImageError, match="no image has labels"):
        best_threshold(segmenter, [InstanceImage(np.zeros((4, 4), np.float32), np.full((4, 4), -1))])
    image = InstanceImage(np.zeros((40, 40), np.float32), _blocks(0))
    with pytest.raises(ParameterError, match="thresholds"):
        best_threshold(segmenter, [image], thresholds=())
    with pytest.raises(ParameterError, match="thresholds"):
        best_threshold(segmenter, [image], thresholds=(0.5, 1.5))


def test_the_score_curve_is_that_of_single_runs() -> None:
    scene = _scene(0)
    segmenter = StarDistSegmenter(_Oracle(depth=1, width=4), CPU, engine="numpy")
    image = InstanceImage(scene.labels.astype(np.float32), scene.labels)
    search = best_threshold(segmenter, [image], thresholds=(0.2, 0.6, 0.95))
    for threshold, score in zip(search.thresholds, search.scores, strict=True):
        found = segmenter.segment(image.image, threshold=threshold).labels.astype(np.int64)
        assert score == match_instances(overlaps(scene.labels, found)).average_precision
