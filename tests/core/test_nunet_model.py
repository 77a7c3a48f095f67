"""The network itself: METHODS T-N1…T-N4, T-N10, and the strength head T-W1…T-W3, T-W5."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from napari_cellenhance.core.device import DeviceChoice
from napari_cellenhance.core.errors import ManifestError, ParameterError
from napari_cellenhance.core.models.build import build
from napari_cellenhance.core.models.nunet import NUNet, knot_weights
from napari_cellenhance.core.recipes.nunet_enhancer import NUNetEnhancer
from napari_cellenhance.core.recipes.protocol import FilterInfo, StrengthInfo
from napari_cellenhance.core.tiling import Region

FLOAT32 = DeviceChoice(device="cpu", precision="float32", note="")
INFO = FilterInfo(
    id="nunet", title="", group="NU-Net", summary="", strength=StrengthInfo(label="", help="", default=8, maximum=10)
)


def seeded(seed: int = 0, **settings: object) -> NUNet:
    """Network with random weights, also where training starts from constants."""
    torch.manual_seed(seed)
    net = NUNet(**settings).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.dim() < 4:
                parameter += 0.1 * torch.randn_like(parameter)
            elif parameter.shape[0] == len(net.knots):
                parameter += 0.01 * torch.randn_like(parameter)
    return net


def half_dark(shape: tuple[int, int] = (192, 256), seed: int = 0) -> NDArray[np.float32]:
    """Noisy blobs that are weak on the left and strong on the right, about [0, 1]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    blobs = np.exp(-(((y % 32) - 16) ** 2 + ((x % 32) - 16) ** 2) / 60.0)
    image = blobs * np.where(x < shape[1] // 2, 0.08, 0.8) + rng.normal(0.1, 0.03, shape) * (1 + x / shape[1])
    return np.clip(image, 0, 1).astype(np.float32)


def tensor(image: NDArray[np.float32]) -> torch.Tensor:
    return torch.from_numpy(image)[None, None] * 255.0


@torch.inference_mode()
def output(net: NUNet, image: NDArray[np.float32], strength: float | None = None) -> NDArray[np.float32]:
    """Network of the definition on a plane whose sides are multiples of 4, scale 0…255, linear."""
    strengths = None if strength is None else torch.tensor([strength])
    return np.asarray(net(tensor(image), strengths)[0, 0])


def test_parameter_count_is_the_published_one() -> None:
    assert sum(p.numel() for p in NUNet().parameters()) == 1_668_865


def test_conditioned_network_adds_only_its_head() -> None:
    plain = sum(p.numel() for p in NUNet().parameters())
    knots = sum(p.numel() for p in NUNet(conditioning="head", knots=(0.0, 5.0, 10.0)).parameters())
    # Norm #10 (64) and convolution #11 (2593), three times instead of once.
    assert knots == plain + 2 * (64 + 2593)


@pytest.mark.parametrize("a", [0.5, 2.0, 50.0])
@pytest.mark.parametrize("b", [0.0, 30.0])
def test_positive_affine_change_of_the_input_changes_nothing(a: float, b: float) -> None:
    net, image = seeded(), half_dark((64, 96))
    expected = output(net, image)
    found = output(net, a * image + np.float32(b / 255.0))
    assert np.abs(found - expected).max() < 1e-3 * expected.std()


def test_contrast_inversion_is_not_absorbed() -> None:
    net, image = seeded(), half_dark((64, 96))
    expected = output(net, image)
    assert np.abs(output(net, -image) - expected).max() > 0.5 * expected.std()


@pytest.mark.parametrize("shape", [(61, 83), (16, 16), (1, 1), (3, 5), (1, 70), (130, 9)])
def test_any_size_comes_back(shape: tuple[int, int]) -> None:
    plane = np.random.default_rng(0).random(shape, dtype=np.float32)
    enhancer = NUNetEnhancer(seeded(), INFO, FLOAT32)
    found = enhancer.decode(enhancer.encode(plane, Region.whole(plane), enhancer.calibrate([plane], _go_on)), 8.0)
    assert found.shape == shape
    assert found.dtype == np.float32
    assert np.isfinite(found).all()


def test_constant_image_gives_constant_output() -> None:
    assert output(seeded(), np.full((48, 64), 0.4, np.float32)).std() < 1e-4


def test_naive_tiles_are_wrong_and_pooled_statistics_are_right() -> None:
    net, image = seeded(), half_dark((256, 256))
    enhancer = NUNetEnhancer(net, INFO, FLOAT32)
    whole = output(net, image)
    naive = np.concatenate([output(net, image[:, :160])[:, :128], output(net, image[:, 96:])[:, 32:]], axis=1)
    assert np.sqrt(np.mean((naive - whole) ** 2)) > 0.2 * whole.std()

    expected = enhancer.decode(enhancer.encode(image, Region.whole(image), enhancer.calibrate([image], _go_on)), 8.0)
    grid = [image[y : y + 128, x : x + 128] for y in (0, 128) for x in (0, 128)]
    pooled = enhancer.decode(enhancer.encode(image, Region.whole(image), enhancer.calibrate(grid, _go_on)), 8.0)
    assert np.sqrt(np.mean((pooled - expected) ** 2)) < 0.05 * expected.std() + 1e-6


@given(
    strength=st.floats(-2, 14),
    knots=st.lists(st.floats(0, 12), min_size=2, max_size=6, unique=True).map(lambda k: tuple(sorted(k))),
)
@settings(max_examples=300, deadline=None)
def test_knot_weights_bracket_the_strength(strength: float, knots: tuple[float, ...]) -> None:
    weights = knot_weights(strength, knots)
    assert min(weights) >= 0
    assert sum(weights) == pytest.approx(1)
    used = [i for i, w in enumerate(weights) if w > 0]
    assert len(used) <= 2
    assert used[-1] - used[0] <= 1
    mixed = sum(w * k for w, k in zip(weights, knots, strict=True))
    assert mixed == pytest.approx(min(max(strength, knots[0]), knots[-1]), abs=1e-6)


def test_knot_weights_are_exact_at_knots() -> None:
    knots = (0.0, 2.5, 7.0, 10.0)
    for i, knot in enumerate(knots):
        assert knot_weights(knot, knots)[i] == 1.0


def test_output_is_continuous_in_the_strength_and_clamped_outside() -> None:
    net, image = seeded(conditioning="head", knots=(0.0, 5.0, 10.0)), half_dark((32, 48))
    at = {w: output(net, image, w) for w in (0.0, 4.99, 5.0, 5.01, 7.0, 10.0, 12.0, -1.0)}
    span = np.abs(at[10.0] - at[0.0]).max()
    assert span > 1.0
    assert np.abs(at[5.0] - at[4.99]).max() < 0.02 * span
    assert np.abs(at[5.01] - at[5.0]).max() < 0.02 * span
    np.testing.assert_array_equal(at[12.0], at[10.0])
    np.testing.assert_array_equal(at[-1.0], at[0.0])


@torch.inference_mode()
def test_cached_features_render_like_the_full_forward() -> None:
    net, image = seeded(conditioning="head", knots=(0.0, 5.0, 10.0)), tensor(half_dark((48, 64)))
    features = net.features(image)
    for strength in (0.0, 3.3, 10.0):
        strengths = torch.tensor([strength])
        torch.testing.assert_close(net.render(features, strengths), net(image, strengths), rtol=1e-5, atol=1e-5)


@torch.inference_mode()
def test_each_sample_of_a_batch_has_its_own_strength() -> None:
    net, image = seeded(conditioning="head", knots=(0.0, 5.0, 10.0)), tensor(half_dark((32, 48)))
    both = net(image.repeat(2, 1, 1, 1), torch.tensor([1.0, 9.0]))
    for i, strength in enumerate((1.0, 9.0)):
        torch.testing.assert_close(both[i : i + 1], net(image, torch.tensor([strength])), rtol=1e-4, atol=1e-3)


@torch.inference_mode()
def test_sigmoid_output_is_bounded() -> None:
    net = seeded(output="sigmoid")
    net.head.weight *= 1e3
    found = output(net, half_dark((32, 48)))
    assert found.min() >= 0
    assert found.max() <= 255
    assert found.std() > 10


@pytest.mark.parametrize(
    "settings",
    [
        {"conditioning": "all"},
        {"output": "tanh"},
        {"conditioning": "head"},
        {"conditioning": "head", "knots": (5.0,)},
        {"conditioning": "head", "knots": (5.0, 5.0)},
        {"knots": (0.0, 5.0)},
    ],
)
def test_contradictory_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ParameterError):
        NUNet(**settings)  # type: ignore[arg-type]


def test_unconditioned_network_needs_no_strength_and_a_conditioned_one_does() -> None:
    image = half_dark((32, 48))
    assert output(seeded(), image).shape == image.shape
    with pytest.raises(ParameterError, match="conditioned"):
        output(seeded(conditioning="head", knots=(0.0, 10.0)), image)


def test_architecture_is_built_from_a_card_and_unknown_ones_are_refused() -> None:
    net = build({"name": "nunet", "conditioning": "head", "knots": [0.0, 10.0]})
    assert isinstance(net, NUNet)
    assert not net.training
    for wrong in ({"name": "unet9"}, {"conditioning": "none"}, {"name": "nunet", "depth": 3}):
        with pytest.raises(ManifestError):
            build(wrong)


def _go_on() -> None:
    pass
