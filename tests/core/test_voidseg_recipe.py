"""VoidSeg's networks, transfer, training recipe and segmenter."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from napari_cellenhance.core.device import DeviceChoice
from napari_cellenhance.core.errors import ImageError, ManifestError, ParameterError
from napari_cellenhance.core.models.build import build
from napari_cellenhance.core.models.denoised_stardist import DenoisedStarDist
from napari_cellenhance.core.models.denoiser import DenoisingNetwork
from napari_cellenhance.core.models.voidseg import VoidSegNetwork, start_from, state_hash
from napari_cellenhance.core.painted import to_targets
from napari_cellenhance.core.recipes.denoised_stardist import StarPlanes
from napari_cellenhance.core.recipes.voidseg import VoidSegRecipe, VoidSegTraining, hold_out_objects
from napari_cellenhance.core.recipes.voidseg_segmenter import PlaneDenoiser, VoidSegmenter
from napari_cellenhance.core.three_classes import VALUES, ObjectImage
from napari_cellenhance.core.tiling import Region
from napari_cellenhance.core.training import FitSettings, fit

CPU = DeviceChoice(device="cpu", precision="float32", note="")
SMALL: dict[str, Any] = {"depth": 1, "width": 4}


def _picture(seed: int, side: int = 48) -> ObjectImage:
    """Bright discs on a noisy ground, two of them touching."""
    rng = np.random.default_rng(seed)
    yy, xx = np.mgrid[:side, :side]
    labels = np.zeros((side, side), np.int32)
    for k, (y, x) in enumerate(((10, 10), (10, 22), (34, 14), (32, 36)), start=1):
        labels[(yy - y - seed % 3) ** 2 + (xx - x) ** 2 <= 36] = k
    image = 0.25 + 0.5 * (labels > 0) + rng.normal(0, 0.06, labels.shape)
    return ObjectImage.complete(image.clip(0, 1).astype(np.float32), labels, f"picture {seed}")


def _denoiser(**more: Any) -> DenoisingNetwork:
    """A denoiser with random weights and running statistics."""
    torch.manual_seed(7)
    module = DenoisingNetwork(**SMALL, **more)
    with torch.no_grad():
        for name, buffer in module.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(0, 0.2)
        module.mean.fill_(0.4)
        module.std.fill_(0.3)
    return module.eval()


def _network(**more: Any) -> VoidSegNetwork:
    torch.manual_seed(1)
    return VoidSegNetwork(**SMALL, **more)


def _recipe(network: VoidSegNetwork, **settings: Any) -> VoidSegRecipe:
    training = VoidSegTraining(**{"crop_px": 32, "batch_size": 2} | settings)
    return VoidSegRecipe(network, [_picture(i) for i in range(6)], training, choice=CPU)


# --- networks -------------------------------------------------------------------------------


def test_parameter_counts_are_the_published_ones() -> None:
    counts = {
        (4, False): 5_500_515, (4, True): 5_500_548, (3, False): 1_367_907, (3, True): 1_367_940,
    }  # fmt: skip
    for (depth, has_output), expected in counts.items():
        network = VoidSegNetwork(depth=depth, has_denoise_output=has_output)
        assert sum(p.numel() for p in network.parameters()) == expected


@pytest.mark.parametrize("denoiser", [None, _denoiser().architecture])
def test_a_card_describes_the_whole_model(denoiser: Any) -> None:
    for network in (_network(has_denoise_output=True, denoiser=denoiser), DenoisedStarDist(denoiser=denoiser, **SMALL)):
        copy = build(network.architecture)
        copy.load_state_dict(network.state_dict(), strict=True)
        assert state_hash(copy) == state_hash(network)


def test_only_denoisers_of_grey_planes_are_taken() -> None:
    for other in (DenoisingNetwork(n_channels=2, **SMALL), DenoisingNetwork(n_dims=3, **SMALL)):
        with pytest.raises(ParameterError, match="single channel"):
            VoidSegNetwork(denoiser=other.architecture, **SMALL)
        with pytest.raises(ManifestError):
            build(_network().architecture | {"denoiser": other.architecture})


def test_transfer_copies_all_but_the_head() -> None:
    """T-G3: weights, biases and running statistics of the body; the head stays random."""
    network, denoiser = _network(), _denoiser()
    head = network.unet.head.weight.detach().clone()
    start_from(network, denoiser)
    given = denoiser.unet.state_dict()
    own = network.unet.state_dict()
    body = [name for name in own if name.startswith("body.")]
    assert len(body) == len([name for name in given if name.startswith("body.")]) > 20
    assert all(torch.equal(own[name], given[name]) for name in body)
    assert any(name.endswith("running_mean") for name in body)
    assert torch.equal(network.unet.head.weight, head)
    with pytest.raises(ParameterError, match="differ"):
        start_from(VoidSegNetwork(depth=2, width=4), denoiser)


def test_with_four_outputs_it_still_denoises_after_the_transfer() -> None:
    for has_classes in (False, True):
        network, denoiser = _network(has_denoise_output=True).eval(), _denoiser(has_classes=has_classes)
        start_from(network, denoiser)
        x = torch.randn(1, 1, 16, 16)
        with torch.no_grad():
            assert torch.allclose(network.unet(x)[:, :1], denoiser(x), atol=1e-6)
            assert network(x).shape == (1, 3, 16, 16)


# --- recipe ---------------------------------------------------------------------------------


def test_mean_and_std_are_those_of_the_training_images() -> None:
    recipe = _recipe(_network())
    pixels = np.concatenate([one.image.ravel() for one in recipe.held_out.train])
    assert float(recipe.network.mean) == pytest.approx(float(pixels.mean()), rel=1e-5)
    assert float(recipe.network.std) == pytest.approx(float(pixels.std()), rel=1e-4)


def test_training_learns_and_never_touches_the_denoiser() -> None:
    """T-G3: the frozen denoiser has the same hash before and after."""
    denoiser = _denoiser()
    network = _network(denoiser=denoiser.architecture)
    assert network.denoiser is not None
    network.denoiser.load_state_dict(denoiser.state_dict())
    before = state_hash(network.denoiser)
    recipe = _recipe(network)
    first = recipe.validate()
    result = fit(recipe, FitSettings(n_steps=30, learning_rate=1e-2, weight_decay=0, validate_every=10, n_warmup=1))
    assert result.state.best_total < 0.5 * first["loss"]
    assert state_hash(network.denoiser) == before == state_hash(denoiser)


def test_a_step_is_decided_by_its_random_numbers() -> None:
    recipe = _recipe(_network())
    losses = [float(recipe.loss(np.random.default_rng(i), 0)["total"].detach()) for i in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]


def test_crops_are_turned_only_where_that_is_asked_for() -> None:
    recipe = _recipe(_network(), has_symmetries=False, batch_size=1)
    image, labels = recipe._sampler.draw(np.random.default_rng(3))
    images, targets = recipe._sample(np.random.default_rng(3))
    assert np.array_equal(images[0, 0].numpy(), image)
    assert np.array_equal(targets[0].numpy(), to_targets(labels, VALUES))


def test_validation_is_the_weighted_loss_and_the_precision() -> None:
    recipe = _recipe(_network(), has_symmetries=False)
    found = recipe.validate()
    network = recipe.network.eval()
    total, n = 0.0, 0
    for one in recipe.held_out.validation:
        x = (torch.from_numpy(one.image)[None, None] - network.mean) / network.std
        with torch.no_grad():
            logits = network(x).double()
        target = torch.from_numpy(one.labels.astype(np.int64) - 1)[None]
        weights = torch.tensor([1.0, 1.0, 5.0], dtype=torch.float64)
        total += float(torch.nn.functional.cross_entropy(logits, target, weights, reduction="sum"))
        n += target.numel()
    assert found["loss"] == pytest.approx(total / n, rel=1e-4)
    assert found["total"] == found["loss"] and 0 <= found["ap"] <= 1
    by_ap = _recipe(_network(), keep_by="ap").validate()
    assert by_ap["total"] == pytest.approx(1 - by_ap["ap"], abs=2e-6)


def test_few_strokes_are_split_into_areas_and_borders_go_along() -> None:
    picture = _picture(0, 96)
    is_kept = np.zeros(picture.image.shape, bool)
    is_kept[:, ::2] = True
    sparse = picture.only(is_kept)
    held = hold_out_objects([sparse], fraction=0.2, gap_px=2, rng=np.random.default_rng(0))
    assert held.how == "blocks"
    train, validation = held.train[0].objects > 0, held.validation[0].objects > 0
    assert not (train & validation).any() and train.any() and validation.any()
    assert set(np.unique(held.validation[0].objects)) <= set(np.unique(picture.objects)) | {0}
    with pytest.raises(ImageError, match="no image has painted objects"):
        VoidSegRecipe(_network(), [picture.only(~(picture.objects >= 0))], VoidSegTraining(crop_px=32), choice=CPU)


def test_settings_out_of_range_are_refused() -> None:
    for wrong in (
        {"crop_px": 0}, {"crops": "all"}, {"keep_by": "iou"}, {"holdout_fraction": 0.7}, {"class_weights": (0, 0, 0)},
    ):  # fmt: skip
        with pytest.raises(ParameterError):
            VoidSegTraining(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="multiple of 2"):
        _recipe(_network(), crop_px=33)


def test_the_learning_rate_is_halved_where_nothing_gets_better() -> None:
    settings = FitSettings(learning_rate=4e-4, schedule="plateau", n_warmup=1, plateau_patience=3)
    assert settings.learning_rate_at(9, [3.0, 2.0, 2.5, 2.5]) == 4e-4
    assert settings.learning_rate_at(9, [3.0, 2.0, 2.5, 2.5, 2.5]) == 2e-4
    assert settings.learning_rate_at(9, [3.0, 2.0, 2.5, 2.5, 1.0, 1.5]) == 4e-4, "progress starts the count anew"


# --- segmenter ------------------------------------------------------------------------------


@pytest.fixture
def sequential() -> VoidSegNetwork:
    denoiser = _denoiser()
    network = _network(denoiser=denoiser.architecture)
    assert network.denoiser is not None
    network.denoiser.load_state_dict(denoiser.state_dict())
    network.mean.fill_(0.3)
    network.std.fill_(0.2)
    with torch.no_grad():
        network.unet.head.weight.mul_(4)
    return network.eval()


def test_tiles_and_windows_do_not_show(sequential: VoidSegNetwork) -> None:
    plane = np.random.default_rng(2).random((53, 71), np.float32)
    segmenter = VoidSegmenter(sequential, CPU)
    whole = segmenter.segment(plane)
    assert whole.labels.shape == (53, 71) and set(np.unique(whole.labels)) <= {1, 2, 3}
    assert np.allclose(whole.probabilities.sum(axis=0), 1, atol=1e-5)
    tiled = segmenter.segment(plane, tile_px=16)
    assert np.allclose(tiled.probabilities, whole.probabilities, atol=1e-5)
    window = Region(7, 40, 13, 62)
    part = segmenter.segment(plane, region=window, tile_px=24)
    assert np.allclose(part.probabilities, whole.probabilities[(slice(None), *window.slices)], atol=1e-5)
    assert np.allclose(part.denoised, whole.denoised[(slice(None), *window.slices)], atol=1e-5)


def test_the_network_looks_at_the_denoised_plane(sequential: VoidSegNetwork) -> None:
    plane = np.random.default_rng(3).random((32, 32), np.float32)
    found = VoidSegmenter(sequential, CPU).segment(plane)
    assert sequential.denoiser is not None
    denoised = PlaneDenoiser(sequential.denoiser, CPU)(plane)
    assert np.allclose(found.denoised[0], denoised, atol=1e-6) and not np.allclose(denoised, plane, atol=0.05)
    x = (torch.from_numpy(denoised)[None, None] - sequential.mean) / sequential.std
    with torch.no_grad():
        wanted = sequential(x).softmax(dim=1)[0].numpy()
    assert np.allclose(found.probabilities, wanted, atol=1e-4)
    assert VoidSegmenter(_network().eval(), CPU).segment(plane).denoised.shape == (0, 32, 32)


def test_segmenter_refuses_what_is_no_plane(sequential: VoidSegNetwork) -> None:
    segmenter = VoidSegmenter(sequential, CPU)
    with pytest.raises(ImageError, match="one plane"):
        segmenter.segment(np.zeros((2, 8, 8), np.float32))
    with pytest.raises(ImageError, match="no numbers"):
        segmenter.segment(np.full((8, 8), np.nan, np.float32))
    with pytest.raises(ParameterError, match="no window"):
        segmenter.segment(np.zeros((8, 8), np.float32), region=Region(0, 9, 0, 8))


def _without_denoiser(module: DenoisedStarDist) -> DenoisedStarDist:
    alone = DenoisedStarDist(n_rays=8, n_features=4, **SMALL).eval()
    alone.stardist.load_state_dict(module.stardist.state_dict())
    return alone


def test_stardist_behind_a_denoiser() -> None:
    denoiser = _denoiser()
    torch.manual_seed(5)
    module = DenoisedStarDist(denoiser=denoiser.architecture, n_rays=8, n_features=4, **SMALL).eval()
    assert module.denoiser is not None
    module.denoiser.load_state_dict(denoiser.state_dict())
    with torch.no_grad():
        module.stardist.distances.bias.fill_(4.0)
        module.stardist.probability.weight.mul_(8.0)
    plane = np.random.default_rng(3).random((40, 36), np.float32)
    planes = StarPlanes(module, CPU, threshold=0.5)
    found = planes.segment(plane)
    assert found.instances.max() > 1 and ((found.labels == 2) == (found.instances > 0)).all()
    assert np.allclose(found.denoised[0], PlaneDenoiser(module.denoiser, CPU)(plane), atol=1e-6)
    x = torch.from_numpy(plane[None, None])
    with torch.inference_mode():
        assert all(map(torch.equal, module(x), module.stardist(x))), "what it is given is denoised already"
    alone = StarPlanes(_without_denoiser(module), CPU)
    assert planes.halo_px == alone.halo_px + PlaneDenoiser(module.denoiser, CPU).halo_px > alone.halo_px
    window = Region(4, 30, 10, 36)
    assert (planes.segment(plane, region=window).instances == found.instances[window.slices]).all()
    assert planes.segment(plane, threshold=1.0).instances.max() == 0
