"""AEP on planes: any size, tiled as untiled, every by-product (METHODS T-A8, T-I3)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from napari_cellenhance.core.device import DeviceChoice
from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.inference import Cancelled
from napari_cellenhance.core.models.aep import AEP
from napari_cellenhance.core.models.segmentation_baseline import PlainSegmenter, SegmentationNetwork
from napari_cellenhance.core.recipes.aep_segmenter import (
    AEPSegmenter,
    GridPlane,
    Segmentation,
    aligned_tiles,
    run_window,
)
from napari_cellenhance.core.tiling import Region, pad_to_multiple

CPU = DeviceChoice(device="cpu", precision="float32", note="")
MAPS = ("probabilities", "filters", "translated")


def _network(module: SegmentationNetwork) -> SegmentationNetwork:
    """Weights and statistics under which distant pixels matter."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
                layer.weight.normal_(0, (2.5 / layer.weight[0].numel()) ** 0.5, generator=generator)
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean.uniform_(-0.2, 0.2, generator=generator)
    return module


def _aep(n_classes: int = 2, **settings: Any) -> AEP:
    torch.manual_seed(0)
    net = _network(AEP(n_classes, **settings))
    assert isinstance(net, AEP)
    return net


def _plane(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).random(shape, dtype=np.float32)


def _difference(a: Segmentation, b: Segmentation) -> float:
    return max(float(np.abs(getattr(a, name) - getattr(b, name)).max(initial=0)) for name in MAPS)


@pytest.fixture(scope="module")
def segmenter() -> AEPSegmenter:
    return AEPSegmenter(_aep(), (1, 2), CPU)


@pytest.fixture(scope="module")
def whole(segmenter: AEPSegmenter) -> Segmentation:
    return segmenter.segment(_plane(250, 333), tile_px=1000)


def test_any_size_comes_back_with_every_by_product(whole: Segmentation) -> None:
    """T-A8."""
    shape = (250, 333)
    assert whole.labels.shape == shape and whole.labels.dtype == np.int32
    assert whole.probabilities.shape == (2, *shape) and whole.probabilities.dtype == np.float32
    assert whole.filters.shape == whole.translated.shape == (2, *shape)
    assert whole.branches.shape == (3, *shape)
    assert whole.branch_names == ("image", "filter 1", "filter 2")
    np.testing.assert_allclose(whole.branch_weights, 1 / 3, rtol=1e-6)
    np.testing.assert_allclose(whole.probabilities.sum(axis=0), 1, atol=1e-5)
    assert whole.filters.min() >= 0 and whole.filters.max() > 0
    assert whole.translated.min() >= 0.5 and whole.translated.max() <= 1
    assert set(np.unique(whole.labels)) == {1, 2}
    np.testing.assert_array_equal(whole.labels, whole.probabilities.argmax(axis=0) + 1)


@pytest.mark.parametrize("tile_px", [100, 250])
def test_tiled_equals_untiled(segmenter: AEPSegmenter, whole: Segmentation, tile_px: int) -> None:
    """T-I3."""
    tiled = segmenter.segment(_plane(250, 333), tile_px=tile_px)
    assert _difference(tiled, whole) < 2e-5
    is_clear = np.abs(whole.probabilities[0] - 0.5) > 1e-4
    np.testing.assert_array_equal(tiled.labels[is_clear], whole.labels[is_clear])
    assert (tiled.branches != whole.branches).mean() < 1e-4


def test_the_context_of_one_network_would_not_do(segmenter: AEPSegmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Network 2 sees filters, which see the image: 43 px and 43 px more."""
    plane = _plane(48, 208)
    untiled = segmenter.segment(plane)
    assert segmenter.halo_px == 88
    assert _difference(segmenter.segment(plane, tile_px=104), untiled) < 2e-5
    monkeypatch.setattr(AEP, "radius_px", 43)
    assert segmenter.halo_px == 48
    tiled = segmenter.segment(plane, tile_px=104)
    assert np.abs(tiled.filters - untiled.filters).max() < 2e-5
    assert _difference(tiled, untiled) > 1e-4


@pytest.mark.parametrize("network", ["light", "unet"])
def test_the_baselines_are_tiled_exactly_too(network: Any) -> None:
    module = _network(PlainSegmenter(2, network=network))
    segmenter = AEPSegmenter(module, (1, 2), CPU)
    plane = _plane(90, 141)
    tiled, untiled = segmenter.segment(plane, tile_px=72), segmenter.segment(plane)
    assert _difference(tiled, untiled) < 2e-5
    assert tiled.filters.shape == (0, 90, 141) and tiled.branch_names == ("image",)


def test_a_window_is_that_of_the_whole_plane(segmenter: AEPSegmenter, whole: Segmentation) -> None:
    for region in (Region(101, 152, 33, 90), Region(243, 250, 300, 333)):
        part = segmenter.segment(_plane(250, 333), region=region, tile_px=64)
        assert part.labels.shape == region.shape
        for name in MAPS:
            np.testing.assert_allclose(getattr(part, name), getattr(whole, name)[:, *region.slices], atol=2e-5)


def test_the_network_decides_alone_about_the_result() -> None:
    net = _aep(3)
    plane = _plane(64, 72)
    result = AEPSegmenter(net, (1, 2, 7), CPU).segment(plane)
    net.eval()
    with torch.no_grad():
        out = net(torch.from_numpy(plane)[None, None])
    np.testing.assert_allclose(result.probabilities, out.probabilities[0], atol=1e-5)
    np.testing.assert_allclose(result.translated, out.translated[0], atol=1e-5)
    np.testing.assert_allclose(result.filters, out.filters[0], atol=1e-4)
    np.testing.assert_array_equal(result.labels, np.array([1, 2, 7])[out.logits[0].argmax(dim=0)])
    np.testing.assert_array_equal(result.branches[2], np.array([1, 2, 7])[out.branches[0, 2].argmax(dim=0)])


def test_equal_probabilities_go_to_the_first_class() -> None:
    net = AEP(2)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
    assert (AEPSegmenter(net, (1, 2), CPU).segment(_plane(16, 16)).labels == 1).all()


def test_training_may_go_on_with_the_network() -> None:
    net = _aep().train()
    segmenter = AEPSegmenter(net, (1, 2), CPU)
    before = segmenter.segment(_plane(32, 32))
    assert net.training
    with torch.no_grad():
        net.first.c1[0].weight.zero_()
    assert _difference(segmenter.segment(_plane(32, 32)), before) == 0


def test_values_beyond_the_range_are_clipped_and_the_plane_is_left_alone(segmenter: AEPSegmenter) -> None:
    plane = 3 * _plane(40, 40) - 1
    before = plane.copy()
    result = segmenter.segment(plane)
    np.testing.assert_array_equal(plane, before)
    assert _difference(result, segmenter.segment(plane.clip(0, 1))) == 0


def test_weights_of_the_branches_are_reported() -> None:
    net = _aep()
    with torch.no_grad():
        net.awel.conv.weight.copy_(torch.tensor([0.25, -1.0, 2.0]).view(1, 3, 1, 1, 1))
    result = AEPSegmenter(net, (1, 2), CPU).segment(_plane(16, 16))
    assert result.branch_weights.tolist() == [0.25, -1.0, 2.0]


def test_bf16_is_close(segmenter: AEPSegmenter) -> None:
    rounded = AEPSegmenter(_aep(), (1, 2), DeviceChoice(device="cpu", precision="bfloat16", note=""))
    plane = _plane(64, 64)
    exact, near = segmenter.segment(plane), rounded.segment(plane)
    assert near.probabilities.dtype == np.float32
    assert float(np.abs(near.probabilities - exact.probabilities).mean()) < 0.05
    assert _difference(exact, near) > 0


@pytest.mark.parametrize("shape", [(1, 1), (3, 50), (8, 8)])
def test_tiny_planes(segmenter: AEPSegmenter, shape: tuple[int, int]) -> None:
    assert segmenter.segment(_plane(*shape)).probabilities.shape == (2, *shape)


def test_tiles_report_and_can_be_stopped(segmenter: AEPSegmenter) -> None:
    done: list[Region] = []

    def checkpoint() -> None:
        if len(done) == 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        segmenter.segment(_plane(60, 70), tile_px=32, on_tile=done.append, checkpoint=checkpoint)
    assert len(done) == 3
    done.clear()
    segmenter.segment(_plane(60, 70), tile_px=32, on_tile=done.append)
    covered = np.zeros((60, 70), int)
    for tile in done:
        covered[tile.slices] += 1
    assert (covered == 1).all()


def test_tiles_lie_on_the_grid_of_the_network() -> None:
    tiles = list(aligned_tiles(Region(13, 61, 3, 40), 20))
    assert all(value % 8 == 0 for tile in tiles for value in (tile.y0, tile.y1, tile.x0, tile.x1))
    assert tiles[0] == Region(8, 32, 0, 24) and tiles[-1] == Region(56, 64, 24, 40)


def test_a_plane_on_the_grid_knows_its_place() -> None:
    padded = GridPlane.of(_plane(13, 30))
    assert padded.shape == (16, 32) and padded.origin == (1, 1)
    region = Region(2, 5, 7, 9)
    np.testing.assert_array_equal(padded[padded.shift(region).slices], _plane(13, 30)[region.slices])
    np.testing.assert_array_equal(padded[:, :], pad_to_multiple(_plane(13, 30), 8)[0].clip(0, 1))
    assert padded.shift_back(padded.shift(region)) == region


def test_one_window_reads_its_context() -> None:
    net, plane = _aep().eval(), _plane(256, 256)
    window = Region(96, 128, 104, 120)
    with torch.no_grad():
        near = run_window(net, plane, window).logits
        far = net(torch.from_numpy(plane)[None, None]).logits[..., 96:128, 104:120]
    torch.testing.assert_close(near, far, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("plane", "more", "error", "message"),
    [
        (np.zeros((3, 16, 16), np.float32), {}, ImageError, "one plane"),
        (np.zeros((0, 16), np.float32), {}, ImageError, "one plane"),
        (np.full((16, 16), np.nan, np.float32), {}, ImageError, "NaN"),
        (np.zeros((16, 16), np.float32), {"region": Region(0, 17, 0, 4)}, ParameterError, "no window"),
        (np.zeros((16, 16), np.float32), {"region": Region(4, 4, 0, 4)}, ParameterError, "no window"),
        (np.zeros((16, 16), np.float32), {"tile_px": 0}, ParameterError, "tiles of 0 px"),
    ],
)
def test_what_cannot_be_segmented_is_explained(
    segmenter: AEPSegmenter, plane: np.ndarray, more: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        segmenter.segment(plane, **more)


def test_values_must_fit_the_network() -> None:
    with pytest.raises(ParameterError, match="3 label values"):
        AEPSegmenter(AEP(2), (1, 2, 3), CPU)
    with pytest.raises(ParameterError, match="increasing"):
        AEPSegmenter(AEP(2), (2, 1), CPU)
