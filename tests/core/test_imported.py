"""Networks of others, and networks handed to others: what a description may say, and what is refused."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from napari_cellenhance.core.device import DeviceChoice
from napari_cellenhance.core.errors import ImageError, ParameterError, WeightsError
from napari_cellenhance.core.models.exported import by_99th_percentile, plane_function
from napari_cellenhance.core.models.nunet import NUNet
from napari_cellenhance.core.models.nunet_blend import BlendedNUNet
from napari_cellenhance.core.models.stardist import StarDist
from napari_cellenhance.core.models.voidseg import VoidSegNetwork
from napari_cellenhance.core.recipes.imported import ImportedBlocks, NetworkPlan, Side, open_network, run_whole
from napari_cellenhance.core.recipes.protocol import FilterInfo, Region, StrengthInfo

CPU = DeviceChoice(device="cpu", precision="float32", note="")
INFO = FilterInfo(
    id="x", title="Theirs", group="", summary="", strength=StrengthInfo(label="", help="", default=1, maximum=1)
)
ANY = Side(1, 1, 0)


def _plan(**more: Any) -> NetworkPlan:
    known = {"kind": "onnx", "axes_in": "bcyx", "axes_out": "bcyx", "dtype": "float32", "y": ANY, "x": ANY}
    return NetworkPlan(**(known | {"channel": None, "before": (), "after": ()} | more))


# --- descriptions ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: Side(0, 1, 0), r"sides of 0 \+ n·1 px with a halo of 0"),
        (lambda: Side(4, 0, 2), "halo"),
        (lambda: _plan(axes_in="bcyy"), "the axes 'bcyy'"),
        (lambda: _plan(axes_out="bcy"), "the axes 'bcy'"),
        (lambda: _plan(axes_in="byx", n_in=2), "without those that it takes at once"),
        (lambda: _plan(z=ANY), "without those that it takes at once"),
        (lambda: _plan(kind="keras"), "describe no network"),
        (lambda: _plan(channel=-1), "describe no network"),
        (lambda: _plan(dtype="complex64"), "describe no network"),
        (lambda: NetworkPlan.from_dict({"name": "onnx"}), r"is damaged \('axes_in'\)"),
        (lambda: NetworkPlan.from_dict(_plan().to_dict() | {"y": ["wide", 1, 0]}), "is damaged"),
        (lambda: NetworkPlan.from_dict(_plan().to_dict() | {"name": "keras"}), "'keras'"),
    ],
)
def test_descriptions_that_make_no_sense_are_refused(call: Callable[[], Any], sentence: str) -> None:
    with pytest.raises(ParameterError, match=sentence):
        call()


def test_a_description_comes_back_from_json() -> None:
    plan = _plan(axes_in="bczyx", axes_out="bczyx", z=Side(4, 4, 1), n_in=2, is_per_channel=True, channel=1)
    assert NetworkPlan.from_dict(plan.to_dict()) == plan


def test_files_that_cannot_be_read_are_told() -> None:
    with pytest.raises(WeightsError, match="TorchScript file cannot be read"):
        open_network("torchscript", b"no archive")
    with pytest.raises(WeightsError, match="ONNX file cannot be read"):
        open_network("onnx", b"no graph")


def test_an_onnx_file_without_onnxruntime_tells_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ParameterError, match=r"pip install napari-cellenhance\[onnx\]"):
        open_network("onnx", b"any")


# --- running -----------------------------------------------------------------------------------


def test_axes_go_there_and_back() -> None:
    seen: list[tuple[int, ...]] = []

    def double(x: NDArray[Any]) -> NDArray[Any]:
        seen.append(x.shape)
        return 2 * x

    block = np.random.default_rng(0).random((1, 2, 3, 6, 7), np.float32)
    plan = _plan(axes_in="bczyx", axes_out="bczyx", z=ANY, n_in=2)
    found = run_whole(double, plan, block)
    assert seen == [(1, 2, 3, 6, 7)] and found.shape == (2, 3, 6, 7)
    np.testing.assert_array_equal(found, 2 * block[0])


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (lambda x: x[:, :, :, :-1], r"gave 2 channel\(s\) of \(3, 5, 7\) px for \(3, 6, 7\) px"),
        (lambda x: x[:, :1], r"gave 1 channel\(s\) of \(3, 6, 7\) px .* 2 channel\(s\) or more"),
        (lambda x: x[0], r"gave an array of shape \(2, 3, 6, 7\); its package promised the axes 'bczyx'"),
        (lambda x: np.concatenate([x, x]), r"an array of shape \(2, 2, 3, 6, 7\)"),
    ],
)
def test_answers_of_another_size_than_promised_are_told(answer: Any, sentence: str) -> None:
    plan = _plan(axes_in="bczyx", axes_out="bczyx", z=ANY, n_in=2)
    with pytest.raises(ImageError, match=sentence):
        run_whole(answer, plan, np.zeros((1, 2, 3, 6, 7), np.float32))


def test_planes_are_told_by_two_sides() -> None:
    with pytest.raises(ImageError, match=r"1 channel\(s\) of \(5, 7\) px for \(6, 7\) px"):
        run_whole(lambda x: x[:, :, :-1], _plan(), np.zeros((1, 1, 6, 7), np.float32))


@pytest.mark.parametrize(
    ("more", "what"),
    [({"axes_in": "bczyx", "axes_out": "bczyx", "z": Side(4, 0, 0)}, "volumes"), ({"n_in": 3}, "3 channels")],
)
def test_what_takes_blocks_refuses_single_planes(more: dict[str, Any], what: str) -> None:
    enhancer = ImportedBlocks(lambda x: x, _plan(**more), INFO, CPU)
    plane, region = np.zeros((8, 8), np.float32), Region(0, 8, 0, 8)
    calls: list[Callable[[], Any]] = [
        lambda: enhancer.calibrate([plane], lambda: None), lambda: enhancer.encode(plane, region, None),
        lambda: enhancer.decode(None, 1.0), lambda: enhancer.calibrate_and_encode(plane, lambda: None),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(ParameterError, match=f"“Theirs” takes {what} at once"):
            call()


# --- ours for others ---------------------------------------------------------------------------


@pytest.mark.parametrize("side", [(10, 10), (10, 11), (1, 101), (3, 4)])
def test_the_99th_percentile_is_that_of_numpy(side: tuple[int, int]) -> None:
    x = torch.rand(1, 1, *side, generator=torch.Generator().manual_seed(1)) * 100
    scaled = by_99th_percentile(x)
    expected = x.numpy() / np.percentile(x.numpy().astype(np.float64), 99)
    np.testing.assert_allclose(scaled.numpy(), expected, rtol=1e-5)
    assert not by_99th_percentile(torch.zeros(1, 1, *side)).any()


def test_what_gives_no_image_is_not_exported() -> None:
    with pytest.raises(ParameterError, match="stars or other things that are no image"):
        plane_function(StarDist(n_rays=8, depth=1, width=4, n_features=4))


def test_a_segmentation_without_denoiser_is_its_network_in_its_own_range() -> None:
    torch.manual_seed(0)
    network = VoidSegNetwork(depth=1, width=4).eval()
    network.mean.fill_(0.3)
    network.std.fill_(0.2)
    plane = np.random.default_rng(0).random((16, 16), np.float32)
    made = plane_function(network, classes={1: "ground", 2: "inside", 3: "border"})
    found = made.run(plane)
    with torch.inference_mode():
        x = torch.from_numpy(plane[None, None])
        expected = network((x - network.mean) / network.std).softmax(dim=1)[0].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(found.sum(axis=0), 1, rtol=1e-5)


def test_a_blend_at_a_knot_is_one_network() -> None:
    torch.manual_seed(0)
    blend = BlendedNUNet(knots=(2.0, 8.0), output="sigmoid").eval()
    plane = np.random.default_rng(0).random((32, 32), np.float32)
    first = blend.networks[0]
    assert isinstance(first, NUNet)
    np.testing.assert_allclose(
        plane_function(blend, strength=2.0).run(plane), plane_function(first, strength=2.0).run(plane), atol=1e-6
    )
