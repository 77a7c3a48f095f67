"""Packages of the BioImage Model Zoo, made here: read, refused where they are not to be trusted, imported, exported."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import io
import pickle
import stat
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import yaml
from numpy.typing import NDArray
from onnx import TensorProto, helper
from torch import Tensor, nn

from napari_cellenhance.core.errors import (
    CellEnhanceError,
    ChecksumError,
    ImageError,
    ManifestError,
    ModelExistsError,
    ParameterError,
    WeightsError,
)
from napari_cellenhance.core.models.aep import AEP
from napari_cellenhance.core.models.csb_unet import CSBUNet
from napari_cellenhance.core.models.denoiser import DenoisingNetwork
from napari_cellenhance.core.models.exported import plane_function
from napari_cellenhance.core.models.nunet import NUNet
from napari_cellenhance.core.models.nunet_blend import BlendedNUNet
from napari_cellenhance.core.models.semantic_unet import SemanticUNet
from napari_cellenhance.core.models.stardist import StarDist
from napari_cellenhance.core.models.voidseg import VoidSegNetwork
from napari_cellenhance.core.recipes import imported
from napari_cellenhance.core.tiling import Region
from napari_cellenhance.io.images import write as write_image
from napari_cellenhance.workflows import enhance, large_images
from napari_cellenhance.workflows.bioimageio import export_bioimageio, import_bioimageio, is_package
from napari_cellenhance.workflows.large_images import LargeRequest
from napari_cellenhance.workflows.preview import PreviewRequest, PreviewSession
from napari_cellenhance.workflows.requests import EnhanceRequest, StrengthMap
from napari_cellenhance.zoo import archives, bioimageio_export, bioimageio_package
from napari_cellenhance.zoo.bioimageio_import import TrustError
from napari_cellenhance.zoo.bioimageio_package import described_network, read_package
from napari_cellenhance.zoo.folders import user_models_dir
from napari_cellenhance.zoo.manifest import find_model, list_models
from napari_cellenhance.zoo.weights import load_model, save_user_model

KERNEL = np.array([[0, 1, 0], [1, 4, 1], [0, 1, 0]], np.float32) / 8


class Smooth(nn.Module):
    """Two channels: smoothed by a cross, and the negative of it."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", torch.from_numpy(KERNEL)[None, None])

    def forward(self, x: Tensor) -> Tensor:
        smooth = torch.nn.functional.conv2d(x, self.kernel, padding=1)
        return torch.cat([smooth, -smooth], dim=1)


def torchscript() -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch plans another format
        torch.jit.save(torch.jit.trace(Smooth(), torch.rand(1, 1, 8, 8), check_trace=False), buffer)
    return buffer.getvalue()


def onnx_file() -> bytes:
    """The same smoothing, of one channel."""
    weight = helper.make_tensor("w", TensorProto.FLOAT, (1, 1, 3, 3), KERNEL.ravel())
    conv = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])
    shape = ("n", 1, "h", "w_")
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "y")]
    graph = helper.make_graph([conv], "smooth", ends[:1], ends[1:], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return bytes(model.SerializeToString())


def description(kind: str = "torchscript", **changes: Any) -> dict[str, Any]:
    size = {"min": 8, "step": 4}
    told: dict[str, Any] = {
        "type": "model", "format_version": "0.5.4", "name": "Tiny smoother", "description": "Smooths.",
        "license": "MIT", "authors": [{"name": "Me"}], "cite": [{"text": "Me, 2026", "doi": "10.1/x"}],
        "inputs": [{
            "id": "raw",
            "axes": [
                {"type": "batch"}, {"type": "channel", "channel_names": ["grey"]},
                {"type": "space", "id": "y", "size": size}, {"type": "space", "id": "x", "size": size},
            ],
            "preprocessing": [
                {"id": "zero_mean_unit_variance", "kwargs": {"axes": ["y", "x"], "eps": 1e-6}},
                {"id": "scale_linear", "kwargs": {"gain": 2.0, "offset": 1.0}},
            ],
        }],
        "outputs": [{
            "id": "out",
            "axes": [
                {"type": "batch"}, {"type": "channel", "channel_names": ["a", "b"]},
                *({"type": "space", "id": a, "size": {"tensor_id": "raw", "axis_id": a}, "halo": 1} for a in "yx"),
            ],
            "postprocessing": [{"id": "clip", "kwargs": {"min": -3.0, "max": 3.0}}],
        }],
        "weights": {kind: {"source": f"weights.{kind}"}},
    }  # fmt: skip
    return told | changes


Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(told: dict[str, Any] | bytes, files: dict[str, bytes] | None = None, name: str = "tiny.zip") -> Path:
        path = tmp_path / name
        text = told if isinstance(told, bytes) else yaml.safe_dump(told).encode()
        with zipfile.ZipFile(path, "w") as archive:
            for file, data in {"bioimageio.yaml": text, **(files or {})}.items():
                archive.writestr(file, data)
        return path

    return write


def image(height: int = 40, width: int = 52) -> NDArray[np.uint16]:
    return np.random.default_rng(3).integers(100, 900, (height, width), dtype=np.uint16)


def wanted(raw: NDArray[Any]) -> NDArray[np.float64]:
    """What the tiny smoother makes of a plane, computed by hand; right but at the edge, which networks pad by zeros."""
    from scipy.ndimage import convolve

    x = raw.astype(np.float64)
    x = (x - x.mean()) / (x.std() + 1e-6) * 2 + 1
    return np.clip(convolve(x, KERNEL.astype(np.float64), mode="constant"), -3, 3)


def run(model_id: str, raw: NDArray[Any], **settings: Any) -> NDArray[Any]:
    return enhance.run(EnhanceRequest(image=raw, axes="YX", filter_id=model_id, precision="float32", **settings)).image


# --- import ---------------------------------------------------------------------------------


def test_a_torchscript_package_runs_with_its_own_processing(write: Write) -> None:
    path = write(description(), {"weights.torchscript": torchscript()})
    assert is_package(path)
    model_id = import_bioimageio(path, trust_torchscript=True)
    card = find_model(model_id)
    assert (card.title, card.license, card.citation) == ("Tiny smoother", "MIT", "Me, 2026")
    assert card.file.name.endswith(".torchscript")
    np.testing.assert_allclose(run(model_id, image()), wanted(image()), atol=1e-5)
    np.testing.assert_array_equal(run(model_id, image(), strength=0.0), image())


def test_the_other_channel_of_the_result(write: Write) -> None:
    path = write(description(), {"weights.torchscript": torchscript()})
    model_id = import_bioimageio(path, model_id="negative", channel=1, trust_torchscript=True)
    np.testing.assert_allclose(run(model_id, image()), np.clip(-wanted(image()), -3, 3), atol=1e-5)


def test_an_onnx_package_needs_no_trust_and_gives_the_same(write: Write) -> None:
    told = description("onnx")
    told["outputs"][0]["axes"][1]["channel_names"] = ["a"]
    model_id = import_bioimageio(write(told, {"weights.onnx": onnx_file()}))
    np.testing.assert_allclose(run(model_id, image()), wanted(image()), atol=1e-5)


def test_onnx_is_taken_before_torchscript(write: Write) -> None:
    told = description("onnx")
    told["weights"]["torchscript"] = {"source": "weights.torchscript"}
    path = write(told, {"weights.onnx": onnx_file(), "weights.torchscript": b"never opened"})
    assert find_model(import_bioimageio(path)).architecture["name"] == "onnx"


@pytest.mark.parametrize("shape", [(40, 50), (37, 41), (7, 9), (1, 30)])
def test_sides_that_the_network_does_not_take_are_padded(write: Write, shape: tuple[int, int]) -> None:
    path = write(description(), {"weights.torchscript": torchscript()})
    model_id = import_bioimageio(path, trust_torchscript=True)
    raw = image(*shape)
    found = run(model_id, raw)
    assert found.shape == shape
    inside = (slice(1, -1), slice(1, -1))
    np.testing.assert_allclose(found[inside], wanted(raw)[inside], atol=1e-5)


def test_a_fixed_tile_with_a_halo_leaves_no_seams(write: Write) -> None:
    told = description()
    for axis in told["inputs"][0]["axes"][2:]:
        axis["size"] = 16
    model_id = import_bioimageio(write(told, {"weights.torchscript": torchscript()}), trust_torchscript=True)
    inside = (slice(1, -1), slice(1, -1))
    np.testing.assert_allclose(run(model_id, image())[inside], wanted(image())[inside], atol=1e-5)
    tiled = run(model_id, image(), tile_px=11)
    np.testing.assert_array_equal(tiled, run(model_id, image()))


def test_a_package_of_format_4(write: Write) -> None:
    told = description(format_version="0.4.10")
    told["inputs"] = [{
        "name": "raw", "axes": "bcyx", "data_type": "float32", "shape": {"min": [1, 1, 8, 8], "step": [0, 0, 4, 4]},
        "preprocessing": [
            {"name": "zero_mean_unit_variance", "kwargs": {"mode": "per_sample", "axes": "yx", "eps": 1e-6}},
            {"name": "scale_linear", "kwargs": {"axes": "yx", "gain": 2.0, "offset": 1.0}},
        ],
    }]  # fmt: skip
    told["outputs"] = [{
        "name": "out", "axes": "bcyx", "data_type": "float32", "halo": [0, 0, 1, 1],
        "shape": {"reference_tensor": "raw", "scale": [1.0, 2.0, 1.0, 1.0], "offset": [0.0, 0.0, 0.0, 0.0]},
        "postprocessing": [{"name": "clip", "kwargs": {"min": -3.0, "max": 3.0}}],
    }]  # fmt: skip
    model_id = import_bioimageio(write(told, {"weights.torchscript": torchscript()}), trust_torchscript=True)
    np.testing.assert_allclose(run(model_id, image()), wanted(image()), atol=1e-5)


def test_its_own_test_image_is_run_at_the_import(write: Write) -> None:
    def npy(array: NDArray[Any]) -> bytes:
        buffer = io.BytesIO()
        np.save(buffer, array)
        return buffer.getvalue()

    told, raw = description(), image()
    told["inputs"][0]["test_tensor"] = {"source": "in.npy"}
    told["outputs"][0]["test_tensor"] = {"source": "out.npy"}
    right = np.stack([wanted(raw), -wanted(raw)])[None]
    files = {"weights.torchscript": torchscript(), "in.npy": npy(raw[None, None]), "out.npy": npy(right)}
    model_id = import_bioimageio(write(told, files), trust_torchscript=True)
    assert find_model(model_id).scores["test_image_largest_difference"] < 1e-5
    objects = npy(np.array([{"a": 1}], dtype=object))
    with pytest.raises(WeightsError, match="is no plain array"):
        import_bioimageio(write(told, files | {"in.npy": objects}), trust_torchscript=True)


# --- several channels, volumes --------------------------------------------------------------


class Mixed(nn.Module):
    """Colours in reverse order, or their mean."""

    def __init__(self, is_grey: bool) -> None:
        super().__init__()
        self.is_grey = is_grey

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=1, keepdim=True) if self.is_grey else x.flip(1)


class Deep(nn.Module):
    """Mean of a voxel and the planes above and below, which are zero beyond the ends."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", torch.full((1, 1, 3, 1, 1), 1 / 3))

    def forward(self, x: Tensor) -> Tensor:
        return torch.nn.functional.conv3d(x, self.kernel, padding=(1, 0, 0))


def scripted(module: nn.Module, *shape: int) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch plans another format
        torch.jit.save(torch.jit.trace(module, torch.rand(shape), check_trace=False), buffer)
    return buffer.getvalue()


def of_colours(n_out: int, axes: list[str]) -> dict[str, Any]:
    told = description()
    told["inputs"][0]["axes"][1]["channel_names"] = ["r", "g", "b"]
    told["inputs"][0]["preprocessing"] = [{"id": "zero_mean_unit_variance", "kwargs": {"axes": axes, "eps": 1e-6}}]
    told["outputs"][0]["axes"][1]["channel_names"] = ["r", "g", "b"][:n_out]
    told["outputs"][0]["postprocessing"] = []
    return told


def of_volumes(size: Any = None) -> dict[str, Any]:
    told = description()
    told["inputs"][0]["axes"].insert(2, {"type": "space", "id": "z", "size": size or {"min": 4, "step": 2}})
    told["outputs"][0]["axes"].insert(
        2, {"type": "space", "id": "z", "size": {"tensor_id": "raw", "axis_id": "z"}, "halo": 1}
    )
    told["outputs"][0]["axes"][1]["channel_names"] = ["a"]
    told["inputs"][0]["preprocessing"] = [{"id": "scale_linear", "kwargs": {"gain": 2.0, "offset": 1.0}}]
    told["outputs"][0]["postprocessing"] = []
    return told


def test_colours_go_through_together_and_colours_come_out(write: Write) -> None:
    path = write(of_colours(3, ["channel", "y", "x"]), {"weights.torchscript": scripted(Mixed(False), 1, 3, 8, 8)})
    model_id = import_bioimageio(path, trust_torchscript=True)
    rgb = np.random.default_rng(0).integers(0, 255, (40, 52, 3), dtype=np.uint8)
    request = EnhanceRequest(image=rgb, axes="YXS", filter_id=model_id, precision="float32")
    result = enhance.run(request)
    pooled = ((rgb - rgb.mean()) / rgb.std())[..., ::-1]
    assert result.axes == "YXS" and result.is_complete
    np.testing.assert_allclose(result.image, pooled, atol=1e-5)
    half = enhance.run(dataclasses.replace(request, strength=0.5)).image
    np.testing.assert_allclose(half, 0.5 * rgb + 0.5 * pooled, atol=1e-4)
    window = enhance.run(dataclasses.replace(request, region=Region(5, 25, 7, 30))).image
    np.testing.assert_allclose(window, pooled[5:25, 7:30], atol=1e-5)
    planes = np.moveaxis(np.stack([rgb, rgb[::-1]]), -1, 1)  # T C Y X
    movie = enhance.run(dataclasses.replace(request, image=planes, axes="TCYX")).image
    np.testing.assert_allclose(movie[0], np.moveaxis(pooled, -1, 0), atol=1e-5)
    with pytest.raises(ImageError, match="takes 3 channels at once, and 1 of this image is chosen"):
        enhance.run(dataclasses.replace(request, channels="grey"))


def test_each_colour_is_measured_by_itself_where_the_package_says_so(write: Write) -> None:
    told = of_colours(1, ["y", "x"])
    path = write(told, {"weights.torchscript": scripted(Mixed(True), 1, 3, 8, 8)})
    model_id = import_bioimageio(path, trust_torchscript=True)
    rgb = np.random.default_rng(0).integers(0, 255, (40, 52, 3)).astype(np.float32) * [1.0, 5.0, 0.2]
    request = EnhanceRequest(image=rgb.astype(np.float32), axes="YXS", filter_id=model_id, precision="float32")
    result = enhance.run(request)
    assert result.axes == "YX" and result.image.shape == (40, 52)
    alone = ((rgb - rgb.mean((0, 1))) / rgb.std((0, 1))).mean(-1)
    np.testing.assert_allclose(result.image, alone, atol=1e-4)
    with pytest.raises(ParameterError, match="cannot be blended"):
        enhance.run(dataclasses.replace(request, strength=0.5))
    mixed = copy.deepcopy(told)
    mixed["inputs"][0]["preprocessing"] += [{"id": "scale_range", "kwargs": {"axes": ["channel", "y", "x"]}}]
    with pytest.raises(ManifestError, match="and others all of them together"):
        described_network(mixed, "torchscript", None)


@pytest.mark.parametrize("size", [None, 6])
def test_volumes_go_through_whole_or_in_blocks_without_seams(
    write: Write, monkeypatch: pytest.MonkeyPatch, size: int | None
) -> None:
    path = write(of_volumes(size), {"weights.torchscript": scripted(Deep(), 1, 1, 4, 8, 8)})
    model_id = import_bioimageio(path, trust_torchscript=True)
    assert find_model(model_id).axes == "ZYX"
    volume = np.random.default_rng(0).integers(0, 900, (10, 20, 24), dtype=np.uint16)
    request = EnhanceRequest(image=volume, axes="ZYX", filter_id=model_id, precision="float32")
    x = 2.0 * volume + 1.0
    inside = (x[:-2] + x[1:-1] + x[2:]) / 3
    whole = enhance.run(request).image
    np.testing.assert_allclose(whole[1:-1], inside, rtol=1e-5)
    monkeypatch.setattr(imported, "_BLOCK_PX", 8)
    np.testing.assert_allclose(enhance.run(request).image[1:-1], inside, rtol=1e-5)
    both = enhance.run(dataclasses.replace(request, image=np.stack([volume, volume[::-1]], axis=1), axes="ZCYX"))
    np.testing.assert_allclose(both.image[1:-1, 1], inside[::-1], rtol=1e-5)
    shallow = enhance.run(dataclasses.replace(request, image=volume[0], axes="YX")).image
    np.testing.assert_allclose(shallow, 2.0 * volume[0] + 1.0, rtol=1e-5)  # mirrored planes are the same one


def test_what_takes_more_than_a_plane_says_so_where_planes_are_needed(write: Write, tmp_path: Path) -> None:
    path = write(of_volumes(), {"weights.torchscript": scripted(Deep(), 1, 1, 4, 8, 8)})
    model_id = import_bioimageio(path, trust_torchscript=True)
    request = EnhanceRequest(image=image(), axes="YX", filter_id=model_id, precision="float32")
    with pytest.raises(ParameterError, match="takes volumes at once: it has no live preview"):
        PreviewSession().update(PreviewRequest(enhance=request))
    with pytest.raises(ParameterError, match="cannot differ by region"):
        enhance.run(dataclasses.replace(request, strength_map=StrengthMap(values=np.ones((40, 52)))))
    write_image(tmp_path / "in.tif", image(), "YX", dtype="keep")
    with pytest.raises(ParameterError, match="larger than memory cannot"):
        large_images.run(
            LargeRequest(
                source=tmp_path / "in.tif", target=tmp_path / "o.ome.zarr",
                settings=dataclasses.replace(request, image=None, axes=""),
            )
        )  # fmt: skip
    told = of_volumes()
    told["inputs"][0]["preprocessing"] = [{"id": "zero_mean_unit_variance", "kwargs": {"axes": ["y", "x"]}}]
    with pytest.raises(ManifestError, match="plane by plane"):
        described_network(told, "torchscript", None)


def test_volumes_and_colours_of_format_4_and_their_test_images(write: Write) -> None:
    def npy(array: NDArray[Any]) -> bytes:
        buffer = io.BytesIO()
        np.save(buffer, array)
        return buffer.getvalue()

    told = description(format_version="0.4.10", test_inputs=["in.npy"], test_outputs=["out.npy"])
    told["inputs"] = [{"name": "raw", "axes": "bczyx", "shape": {"min": [1, 1, 4, 8, 8], "step": [0, 0, 2, 4, 4]}}]
    same = {"reference_tensor": "raw", "scale": [1.0] * 5, "offset": [0.0] * 5}
    told["outputs"] = [{"name": "out", "axes": "bczyx", "shape": same, "halo": [0, 0, 1, 0, 0]}]
    volume = np.random.default_rng(0).random((1, 1, 6, 8, 12)).astype(np.float32)
    padded = np.pad(volume, ((0, 0), (0, 0), (1, 1), (0, 0), (0, 0)))
    right = (padded[:, :, :-2] + padded[:, :, 1:-1] + padded[:, :, 2:]) / 3
    files = {"weights.torchscript": scripted(Deep(), 1, 1, 4, 8, 8), "in.npy": npy(volume), "out.npy": npy(right)}
    card = find_model(import_bioimageio(write(told, files), trust_torchscript=True))
    assert card.axes == "ZYX" and card.architecture["z"] == [4, 2, 1]
    assert card.scores["test_image_largest_difference"] < 1e-6
    colours = description(format_version="0.4.10")
    colours["inputs"] = [{"name": "raw", "axes": "byxc", "shape": [1, 8, 8, 3]}]
    colours["outputs"] = [{"name": "out", "axes": "byxc", "shape": [1, 8, 8, 3]}]
    plan = described_network(colours, "torchscript", None)
    assert (plan["n_in"], plan["channel"], plan["axes_in"]) == (3, None, "byxc")
    assert described_network(colours, "torchscript", 2)["channel"] == 2
    with pytest.raises(ManifestError, match="there is no channel 3"):
        described_network(colours, "torchscript", 3)


# --- what is refused ------------------------------------------------------------------------


def test_a_program_is_not_run_before_somebody_trusts_it(write: Write) -> None:
    path = write(description(), {"weights.torchscript": torchscript()})
    with pytest.raises(TrustError, match="can read and write files"):
        import_bioimageio(path)
    assert not user_models_dir().exists(), "nothing was stored"


def change(path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    told = copy.deepcopy(description())
    place = told
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return told


REFUSED = {
    "unknown step": (("inputs", 0, "preprocessing"), [{"id": "magic", "kwargs": {}}], "'magic', which this version"),
    "per channel": (
        ("inputs", 0, "preprocessing"), [{"id": "scale_linear", "kwargs": {"gain": [1.0, 2.0]}}], "single number",
    ),
    "unknown setting": (
        ("inputs", 0, "preprocessing"), [{"id": "clip", "kwargs": {"min_percentile": 1.0}}], "no setting",
    ),
    "odd axes": (
        ("inputs", 0, "preprocessing"), [{"id": "zero_mean_unit_variance", "kwargs": {"axes": ["x"]}}], "whole planes",
    ),
    "measured result": (
        ("outputs", 0, "postprocessing"), [{"id": "zero_mean_unit_variance", "kwargs": {}}], "only the input",
    ),
    "integers": (
        ("inputs", 0, "preprocessing"), [{"id": "ensure_dtype", "kwargs": {"dtype": "uint8"}}], "expected float32",
    ),
    "time": (("inputs", 0, "axes", 0), {"type": "time", "size": 3}, "the axis 'time'"),
    "two inputs": (("inputs",), description()["inputs"] * 2, "2 inputs"),
    "larger result": (("outputs", 0, "axes", 2, "scale"), 0.5, "another size"),
    "valid result": (
        ("outputs", 0, "axes", 2, "size"), {"tensor_id": "raw", "axis_id": "y", "offset": -4}, "another size",
    ),
    "nothing": (("inputs",), [], "has no inputs"),
    "nonsense": (("outputs", 0, "axes"), 3, "is damaged"),
    "huge halo": (("inputs", 0, "axes", 2, "size"), 2, "nothing is left of a tile"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_run_as_meant_is_refused_with_the_reason(write: Write, case: str) -> None:
    path, value, words = REFUSED[case]
    with pytest.raises(ManifestError, match=words) as caught:
        described_network(change(path, value), "torchscript", None)
    assert "\n" not in str(caught.value)
    package = write(change(path, value), {"weights.torchscript": torchscript()})
    with pytest.raises(CellEnhanceError):
        import_bioimageio(package, trust_torchscript=True)
    assert not user_models_dir().exists(), "nothing was stored"


def test_code_of_a_package_is_never_run(write: Write, tmp_path: Path) -> None:
    mark = tmp_path / "was-run"

    class Bomb:
        def __reduce__(self) -> Any:
            return (Path.touch, (mark,))

    told = description("pytorch_state_dict")
    told["weights"]["pytorch_state_dict"] |= {"architecture": {"callable": "Net", "source": "net.py"}}
    files = {"weights.pytorch_state_dict": b"", "net.py": f"open({str(mark)!r}, 'w')".encode()}
    with pytest.raises(ManifestError, match="is never run"):
        import_bioimageio(write(told, files), trust_torchscript=True)
    card = {**tiny_card("n2v", DenoisingNetwork(depth=1, width=4)), "file": entry(), "bundled": False}
    told["config"] = {"cellenhance": {"card": card}}
    told["weights"] = {"pytorch_state_dict": {"source": "w.pt"}}
    with pytest.raises(WeightsError, match="cannot be read as plain weights"):
        import_bioimageio(write(told, {"w.pt": pickle.dumps(Bomb(), protocol=2)}))
    with pytest.raises(ManifestError, match="not valid YAML"):
        import_bioimageio(write(f"a: !!python/object/apply:os.mkdir ['{mark}']".encode()))
    assert not mark.exists()


def test_names_that_lead_out_of_the_archive(tmp_path: Path, write: Write) -> None:
    for name in ("../evil.pt", "/etc/evil.pt", "C:\\evil.pt", "a/../../evil.pt", "..\\evil.pt"):
        with pytest.raises(WeightsError, match="leads out of the archive"):
            read_package(write(description(), {name: b"x"}))
    assert [path.name for path in tmp_path.parent.glob("**/evil.pt")] == []


def test_links_and_devices_are_passed_over(tmp_path: Path) -> None:
    secret = tmp_path / "secret.pt"
    secret.write_bytes(b"secret")
    path = tmp_path / "links.tar"
    with tarfile.open(path, "w") as archive:
        text = yaml.safe_dump(description()).encode()
        member = tarfile.TarInfo("bioimageio.yaml")
        member.size = len(text)
        archive.addfile(member, io.BytesIO(text))
        for name, kind in (
            ("weights.torchscript", tarfile.SYMTYPE),
            ("hard.pt", tarfile.LNKTYPE),
            ("d.pt", tarfile.CHRTYPE),
        ):
            odd = tarfile.TarInfo(name)
            odd.type, odd.linkname = kind, str(secret)
            archive.addfile(odd)
    assert read_package(path).files == {}
    with pytest.raises(WeightsError, match="which are not in it"):
        import_bioimageio(path, trust_torchscript=True)
    zipped = tmp_path / "links.zip"
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("bioimageio.yaml", yaml.safe_dump(description()))
        for name, mode in (("weights.torchscript", stat.S_IFLNK), ("d.pt", stat.S_IFCHR)):
            info = zipfile.ZipInfo(name)
            info.external_attr = (mode | 0o777) << 16
            archive.writestr(info, str(secret))
    assert read_package(zipped).files == {}


def test_what_would_grow_huge_is_not_unpacked(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bioimageio_package, "_MAX_FILE_BYTES", 1_000_000)
    with pytest.raises(WeightsError, match="larger than 1 MB"):
        read_package(write(description(), {"weights.torchscript": bytes(2_000_000)}))
    monkeypatch.setattr(bioimageio_package, "_MAX_TOTAL_BYTES", 1_500_000)
    with pytest.raises(WeightsError, match="larger than"):
        read_package(write(description(), {"a.pt": bytes(900_000), "b.pt": bytes(900_000)}))
    monkeypatch.setattr(archives, "MAX_MEMBERS", 5)
    with pytest.raises(WeightsError, match="more than 5 files"):
        read_package(write(description(), {f"{i}.txt": b"" for i in range(9)}))
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
    for text in (bomb, "a: &a [*a]\n"):
        with pytest.raises(ManifestError, match="grow beyond"):
            read_package(write(f"{text}type: model\nformat_version: 0.5.4\nweights: {{}}".encode()))
    with pytest.raises(WeightsError, match="larger than 1 MB"):
        read_package(write(b"a" * 1_500_000))


def test_damaged_files_are_told(write: Write, tmp_path: Path) -> None:
    whole = write(description(), {"weights.torchscript": torchscript()}).read_bytes()
    cut = tmp_path / "cut.zip"
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match="damaged"):
        read_package(cut)
    cut.write_bytes(b"no archive")
    with pytest.raises(WeightsError, match="neither a tar nor a zip"):
        read_package(cut)
    told = description()
    told["weights"]["torchscript"]["sha256"] = hashlib.sha256(b"other").hexdigest()
    with pytest.raises(ChecksumError, match="SHA-256 differs"):
        import_bioimageio(write(told, {"weights.torchscript": torchscript()}), trust_torchscript=True)
    for kind in ("torchscript", "onnx"):
        with pytest.raises(WeightsError, match="cannot be read"):
            import_bioimageio(write(description(kind), {f"weights.{kind}": b"nonsense"}), trust_torchscript=True)
    with pytest.raises(ManifestError, match=r"of the format 0\.3"):
        read_package(write(description(format_version="0.3.6")))
    with pytest.raises(ManifestError, match="describes no model"):
        read_package(write(description(type="dataset")))


def test_an_onnx_file_cannot_reach_other_files(write: Write) -> None:
    model = onnx.load_model_from_string(onnx_file())
    weight = model.graph.initializer[0]
    weight.ClearField("float_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="../../etc/passwd")
    with pytest.raises(WeightsError, match="keeps its weights in other files"):
        import_bioimageio(write(description("onnx"), {"weights.onnx": model.SerializeToString()}))


def test_weights_that_changed_after_the_import_are_not_run(write: Write) -> None:
    told = description("onnx")
    told["outputs"][0]["axes"][1]["channel_names"] = ["a"]
    card = find_model(import_bioimageio(write(told, {"weights.onnx": onnx_file()})))
    (user_models_dir() / card.file.name).write_bytes(onnx_file()[:-1] + b"x")
    with pytest.raises(ChecksumError, match="has changed"):
        run(card.id, image())


def test_dark_objects_are_refused_where_grey_values_count(write: Write) -> None:
    model_id = import_bioimageio(write(description(), {"weights.torchscript": torchscript()}), trust_torchscript=True)
    with pytest.raises(ParameterError, match="takes grey values as they are"):
        run(model_id, image(), objects_are_dark=True)


# --- export ---------------------------------------------------------------------------------


def entry() -> dict[str, Any]:
    return {"name": "x.safetensors", "url": None, "sha256": "0" * 64, "size_bytes": 1}


def tiny_card(recipe: str, network: Any, **changes: Any) -> dict[str, Any]:
    classes = [{"value": 1, "name": "ground"}, {"value": 2, "name": "cells"}, {"value": 3, "name": "border"}]
    return {
        "id": f"tiny-{recipe}", "title": f"Tiny {recipe} σ", "version": "1.0", "license": "BSD-3-Clause",
        "citation": "Me, 2026", "summary": "A tiny network.", "recipe": recipe, "architecture": network.architecture,
        "normalization": {"name": "percentile", "parameters": {"lo": 1.0, "hi": 99.0}},
        "strength": {"default": 1.0, "maximum": 1.0}, "classes": classes if recipe in ("aep", "voidseg") else [],
    } | changes  # fmt: skip


def trained(network: nn.Module) -> Any:
    """Weights that are not all alike, small enough that nothing runs away."""
    torch.manual_seed(1)
    for parameter in network.parameters():
        nn.init.normal_(parameter, 0.0, 0.05)
    return network.eval()


SMALL = {"depth": 1, "width": 4}
NETWORKS: dict[str, Callable[[], tuple[str, Any, dict[str, Any]]]] = {
    "n2v, own statistics": lambda: ("n2v", DenoisingNetwork(statistics="image", **SMALL), {}),
    "n2v, stored": lambda: ("n2v", DenoisingNetwork(**SMALL), {}),
    "care": lambda: ("care", CSBUNet(n_out=1, is_residual=True, is_probabilistic=True, **SMALL), {}),
    "semantic": lambda: ("semantic", SemanticUNet(), {
        "normalization": {"name": "fixed_log", "parameters": {"low": 0.0, "high": 900.0}},
    }),
    "semantic, 99th percentile": lambda: ("semantic", SemanticUNet(), {"normalization": {"name": "p99"}}),
    "aep": lambda: ("aep", AEP(n_classes=3), {}),
    "voidseg": lambda: ("voidseg", VoidSegNetwork(denoiser=DenoisingNetwork(**SMALL).architecture, **SMALL), {
        "normalization": {"name": "meanstd"},
    }),
}  # fmt: skip


@pytest.mark.parametrize("case", NETWORKS)
def test_an_exported_model_is_the_same_function_for_others_and_the_same_model_for_us(case: str, tmp_path: Path) -> None:
    recipe, network, changes = NETWORKS[case]()
    card = save_user_model(trained(network).state_dict(), tiny_card(recipe, network, **changes))
    path = export_bioimageio(card.id, tmp_path)
    assert path.name == f"{card.id}.bioimageio.zip"
    foreign = import_bioimageio(without_our_card(path), model_id="foreign", trust_torchscript=True)
    assert find_model(foreign).scores["test_image_largest_difference"] < 1e-5
    check_description(path)
    again = find_model(import_bioimageio(path, model_id="again"))
    before, after = load_model(card).state_dict(), load_model(again).state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    if recipe in ("n2v", "care", "semantic"):
        raw = np.random.default_rng(5).integers(100, 900, (352, 352), dtype=np.uint16)
        np.testing.assert_allclose(run(foreign, raw), bounded(run, card.id, raw), atol=2e-3)


def bounded(run: Callable[..., NDArray[Any]], model_id: str, raw: NDArray[Any]) -> NDArray[Any]:
    """Our own filters clip to [0, 1]; where they do, nothing can be compared."""
    ours = run(model_id, raw)
    foreign = run("foreign", raw)
    return np.where((ours <= 0) | (ours >= 1), foreign, ours)


@pytest.mark.parametrize("shape", [(352, 352), (101, 90), (130, 67)])
def test_a_package_scales_a_plane_of_any_size_by_its_99th_percentile(shape: tuple[int, int], tmp_path: Path) -> None:
    network = trained(SemanticUNet())
    card = save_user_model(network.state_dict(), tiny_card("semantic", network, normalization={"name": "p99"}))
    path = export_bioimageio(card.id, tmp_path)
    raw = np.random.default_rng(5).integers(100, 900, shape, dtype=np.uint16)
    import_bioimageio(without_our_card(path), model_id="foreign", trust_torchscript=True)
    np.testing.assert_allclose(run("foreign", raw), bounded(run, card.id, raw), atol=1e-5)
    with zipfile.ZipFile(path) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch plans another format
        function = torch.jit.load(io.BytesIO(archive.read("weights.torchscript")))
        assert b"give whole planes, not tiles" in archive.read("README.md")
    two = torch.from_numpy(np.stack([raw, raw // 3]).astype(np.float32))[:, None]
    with torch.inference_mode():
        both, dark = function(two), function(-two)
        np.testing.assert_allclose(both[1], function(two[1:])[0], atol=1e-5, err_msg="each plane by its own percentile")
        np.testing.assert_allclose(dark, function(0 * two), atol=1e-5, err_msg="nothing above 0: zeros, as for us")
        assert torch.isfinite(function(0 * two)).all()


def test_every_model_that_comes_along_can_be_exported() -> None:
    for card in list_models():
        steps, before = bioimageio_export._steps_before(card)
        function = plane_function(load_model(card), classes={c.value: c.name for c in card.classes}, before=before)
        assert (steps == []) == (before is not None) and function.channels


@pytest.mark.parametrize("kind", ["instance", "frozen", "blend"])
def test_a_nunet_is_exported_at_one_strength(kind: str, tmp_path: Path) -> None:
    if kind == "blend":
        network: Any = BlendedNUNet(knots=(5.0, 10.0))
        architecture = {"name": "nunet-blend", "knots": [5.0, 10.0], "output": "clip"}
    else:
        knots = {"conditioning": "head" if kind == "instance" else "decoder", "knots": (5.0, 10.0)}
        network = NUNet(output="sigmoid", norm=kind, **knots)
        architecture = {"name": "nunet", "output": "sigmoid", "norm": kind, **knots, "knots": [5.0, 10.0]}
    for parameter in network.parameters():
        nn.init.normal_(parameter, 0.0, 0.03) if parameter.dim() > 1 else nn.init.ones_(parameter)
    network.architecture = architecture
    card = save_user_model(
        network.eval().state_dict(),
        tiny_card(
            "nunet", network, object_diameter_px=20, strength={"default": 8.0, "maximum": 10.0, "identity_below": 5.0}
        ),
    )
    raw = np.random.default_rng(5).integers(100, 900, (256, 200), dtype=np.uint16)
    path = export_bioimageio(card.id, tmp_path / "at6.zip", strength=6.0, image=raw)
    foreign = import_bioimageio(without_our_card(path), model_id="foreign", trust_torchscript=True)
    whole = raw[:, :200]
    np.testing.assert_allclose(run(foreign, whole), run(card.id, whole, strength=6.0), atol=4e-3)
    check_description(path)
    with pytest.raises(ParameterError, match="is outside 5…10"):
        export_bioimageio(card.id, tmp_path, strength=2.0)
    assert find_model(import_bioimageio(path, model_id="again")).strength.maximum == 10.0


def test_what_cannot_be_exported_is_told(tmp_path: Path, write: Write) -> None:
    star = StarDist(**SMALL)
    classes = [{"value": 1, "name": "ground"}, {"value": 2, "name": "cells"}]
    save_user_model(star.state_dict(), tiny_card("stardist", star, classes=classes))
    volume = DenoisingNetwork(n_dims=3, **SMALL)
    save_user_model(volume.state_dict(), tiny_card("n2v", volume, axes="ZYX"))
    channels = DenoisingNetwork(n_channels=2, **SMALL)
    save_user_model(channels.state_dict(), tiny_card("n2v", channels, id="two"))
    import_bioimageio(write(description(), {"weights.torchscript": torchscript()}), trust_torchscript=True)
    for model_id, words in (
        ("tiny-stardist", "gives stars"), ("tiny-n2v", "for volumes"), ("two", "2 channel"),
        ("tiny-smoother", "hand on that package"),
    ):  # fmt: skip
        with pytest.raises(ParameterError, match=words):
            export_bioimageio(model_id, tmp_path)
    with pytest.raises(ParameterError, match=r"ending in \.zip"):
        export_bioimageio("two", tmp_path / "x.tar")
    assert list(tmp_path.glob("*.bioimageio.zip")) == []


def test_an_import_never_replaces_another_model_of_the_user(tmp_path: Path, write: Write) -> None:
    network = DenoisingNetwork(**SMALL)
    mine = save_user_model(trained(network).state_dict(), tiny_card("n2v", network))
    path = export_bioimageio(mine.id, tmp_path)
    assert import_bioimageio(path) == mine.id, "the same weights may come again"
    nn.init.zeros_(next(network.parameters()))
    changed = save_user_model(network.state_dict(), tiny_card("n2v", network))
    with pytest.raises(ModelExistsError, match="'tiny-n2v' already; give this one another id"):
        import_bioimageio(path)
    foreign = write(description(), {"weights.torchscript": torchscript()})
    with pytest.raises(ModelExistsError, match="'tiny-n2v' already"):
        import_bioimageio(foreign, model_id=mine.id, trust_torchscript=True)
    assert find_model(mine.id) == changed
    assert import_bioimageio(path, model_id="theirs") == "theirs"
    smooth = import_bioimageio(foreign, trust_torchscript=True)
    assert import_bioimageio(foreign, channel=1, trust_torchscript=True) == smooth, "its other channel"
    with pytest.raises(ModelExistsError, match="'tiny-smoother' already"):
        import_bioimageio(path, model_id=smooth)


def test_a_damaged_card_in_a_package_is_refused(tmp_path: Path) -> None:
    network = DenoisingNetwork(**SMALL)
    card = save_user_model(network.state_dict(), tiny_card("n2v", network))
    path = export_bioimageio(card.id, tmp_path)
    for key, value in (("recipe", "magic"), ("strength", {"default": 5, "maximum": 1}), ("surprise", 1)):

        def edit(told: dict[str, Any], key: str = key, value: Any = value) -> None:
            told["config"]["cellenhance"]["card"][key] = value

        with pytest.raises(ManifestError, match="breaks the schema"):
            import_bioimageio(edited(path, edit))
    assert [one.id for one in list_models() if one.file.url is None] == [card.id]


def edited(path: Path, edit: Callable[[dict[str, Any]], None]) -> Path:
    changed = path.with_name(f"edited-{path.name}")
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(changed, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            if name == "bioimageio.yaml":
                told = yaml.safe_load(data)
                edit(told)
                data = yaml.safe_dump(told).encode()
            target.writestr(name, data)
    return changed


def without_our_card(path: Path) -> Path:
    return edited(path, lambda told: told.pop("config"))


def check_description(path: Path) -> None:
    """The rules of the specification (0.5) that our descriptions could break; the official validator is run apart."""
    with zipfile.ZipFile(path) as archive:
        told = yaml.safe_load(archive.read("bioimageio.yaml"))
        names = archive.namelist()
        for place in (told["documentation"], *told["attachments"], told["weights"]["torchscript"]):
            assert place["source"] in names
            assert hashlib.sha256(archive.read(place["source"])).hexdigest() == place["sha256"]
        shape = np.load(io.BytesIO(archive.read("test_input.npy")), allow_pickle=False).shape
        result = np.load(io.BytesIO(archive.read("test_output.npy")), allow_pickle=False).shape
    assert told["type"] == "model" and told["format_version"].startswith("0.5.")
    assert told["name"].isascii() and 5 <= len(told["name"]) <= 128
    assert told["documentation"]["source"].endswith(".md") and told["authors"] and told["cite"]
    given, (out,) = told["inputs"][0]["axes"], told["outputs"]
    assert [axis.get("id", axis["type"]) for axis in given] == ["batch", "channel", "y", "x"]
    assert len(out["axes"][1]["channel_names"]) == result[1] and shape[2:] == result[2:]
    for axis, n in zip(given[2:], shape[2:], strict=True):
        size = axis["size"]
        assert n >= size["min"] and (n - size["min"]) % size["step"] == 0, "the test image is a valid input"
    for axis in out["axes"][2:]:
        assert axis["size"] == {"tensor_id": told["inputs"][0]["id"], "axis_id": axis["id"]}
        assert 2 * axis.get("halo", 0) < given[2]["size"]["min"]
    known = {"ensure_dtype", "scale_range", "clip", "scale_linear", "zero_mean_unit_variance"}
    assert {step["id"] for step in told["inputs"][0]["preprocessing"]} <= known
