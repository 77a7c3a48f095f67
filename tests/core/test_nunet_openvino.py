"""NU-Net by OpenVINO gives the pixels of NU-Net by torch; without the package the CPU takes over."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from napari_cellenhance.core import device
from napari_cellenhance.core.device import DeviceChoice, choose_device
from napari_cellenhance.core.models.nunet import NUNet
from napari_cellenhance.core.recipes.nunet_enhancer import NUNetEnhancer
from napari_cellenhance.core.recipes.nunet_openvino import FrozenOpenVINOEnhancer, OpenVINOEnhancer
from napari_cellenhance.core.recipes.protocol import Enhancer, FilterInfo, StrengthInfo
from napari_cellenhance.core.tiling import Region

STEP = 1.0 / 255.0
INFO = FilterInfo(
    id="nunet", title="", group="NU-Net", summary="", strength=StrengthInfo(label="", help="", default=8, maximum=10)
)
CPU = DeviceChoice(device="cpu", precision="float32", note="")
OPENVINO = DeviceChoice(device="openvino", precision="float32", note="")


@pytest.fixture(autouse=True)
def fresh_probe() -> Iterator[None]:
    device.device_refusal.cache_clear()
    yield
    device.device_refusal.cache_clear()


@pytest.fixture(scope="module")
def net() -> NUNet:
    """Seeded network whose output spans much of the grey scale, as a trained one does."""
    torch.manual_seed(3)
    net = NUNet(conditioning="head", knots=(0.0, 5.0, 10.0), output="sigmoid").eval()
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.dim() < 4:
                parameter += 0.1 * torch.randn_like(parameter)
        net.head.weight *= 40.0 * torch.tensor([0.5, 1.0, 1.6]).reshape(3, 1, 1, 1)
    return net


@pytest.fixture(scope="module")
def by_torch(net: NUNet) -> NUNetEnhancer:
    return NUNetEnhancer(net, INFO, CPU)


@pytest.fixture(scope="module")
def by_openvino(net: NUNet) -> OpenVINOEnhancer:
    """Compiled once for all tests, whatever the shapes of their planes."""
    pytest.importorskip("openvino")
    return OpenVINOEnhancer(net, INFO, OPENVINO)


def cells(shape: tuple[int, int], seed: int = 0) -> NDArray[np.float32]:
    """Blobs on an uneven ground with noise, about [0, 1]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    image = 0.1 + 0.1 * x / shape[1] + rng.normal(0, 0.02, shape)
    for _ in range(max(3, shape[0] * shape[1] // 900)):
        cy, cx, r = rng.uniform(0, shape[0]), rng.uniform(0, shape[1]), rng.uniform(3, 9)
        image += rng.uniform(0.1, 0.7) * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * r**2))
    return np.clip(image, 0, 1).astype(np.float32)


def go_on() -> None:
    pass


def whole(filter_: NUNetEnhancer, plane: NDArray[np.float32], strength: float = 6.5) -> NDArray[np.float32]:
    both = filter_.calibrate_and_encode(plane, go_on)
    assert both is not None
    return filter_.decode(both[1], strength)


def test_is_an_enhancer(by_openvino: OpenVINOEnhancer) -> None:
    assert isinstance(by_openvino, Enhancer)


@pytest.mark.parametrize("shape", [(120, 96), (61, 83), (18, 131), (3, 40)])
@pytest.mark.parametrize("strength", [1.0, 9.0])
def test_one_pass_gives_the_pixels_of_torch(
    by_openvino: OpenVINOEnhancer, by_torch: NUNetEnhancer, shape: tuple[int, int], strength: float
) -> None:
    plane = cells(shape)
    expected = whole(by_torch, plane, strength)
    assert expected.std() > 0.02
    np.testing.assert_allclose(whole(by_openvino, plane, strength), expected, atol=0.05 * STEP)


def test_statistics_are_those_of_torch(by_openvino: OpenVINOEnhancer, by_torch: NUNetEnhancer) -> None:
    plane = cells((93, 130))
    found, expected = (f.calibrate([plane], go_on).statistics for f in (by_openvino, by_torch))
    assert len(found.means) == len(found.variances) == 15
    for mean, var, right_mean, right_var in zip(
        found.means, found.variances, expected.means, expected.variances, strict=True
    ):
        assert float(((mean - right_mean).abs() / right_var.sqrt()).max()) < 1e-4
        torch.testing.assert_close(var, right_var, rtol=1e-4, atol=0)


def test_tiles_equal_the_whole_plane_also_at_the_borders(by_openvino: OpenVINOEnhancer) -> None:
    plane = cells((190, 221))
    both = by_openvino.calibrate_and_encode(plane, go_on)
    assert both is not None
    expected = by_openvino.decode(both[1], 6.5)
    out = np.full_like(plane, np.nan)
    for y in range(0, 190, 53):
        for x in range(0, 221, 67):
            tile = Region(y, min(190, y + 53), x, min(221, x + 67))
            out[tile.slices] = by_openvino.decode(by_openvino.encode(plane, tile, both[0]), 6.5)
    np.testing.assert_allclose(out, expected, atol=0.05 * STEP)


def test_calibration_of_a_stack_serves_both(by_openvino: OpenVINOEnhancer, by_torch: NUNetEnhancer) -> None:
    # More than one plane is measured in bands, by torch: the frozen graph must agree with it.
    planes = [cells((40, 60), seed) for seed in range(2)]
    pooled, window = by_openvino.calibrate(planes, go_on), Region(3, 37, 10, 55)
    found, expected = (f.decode(f.encode(planes[1], window, pooled), 6.5) for f in (by_openvino, by_torch))
    np.testing.assert_allclose(found, expected, atol=0.05 * STEP)


def test_features_outlive_the_next_run(by_openvino: OpenVINOEnhancer) -> None:
    plane, other = cells((48, 64)), cells((48, 64), seed=5)
    both = by_openvino.calibrate_and_encode(plane, go_on)
    assert both is not None
    region = by_openvino.encode(plane, Region(0, 20, 0, 30), both[0])
    before = by_openvino.decode(both[1], 6.5), by_openvino.decode(region, 6.5)
    whole(by_openvino, other)
    by_openvino.encode(other, Region(0, 20, 0, 30), both[0])
    np.testing.assert_array_equal(by_openvino.decode(both[1], 6.5), before[0])
    np.testing.assert_array_equal(by_openvino.decode(region, 6.5), before[1])


def test_compiled_once_also_for_another_memory_limit(
    by_openvino: OpenVINOEnhancer, monkeypatch: pytest.MonkeyPatch
) -> None:
    plane = cells((40, 60))
    expected = whole(by_openvino, plane)
    monkeypatch.setattr(
        "napari_cellenhance.core.models.nunet_openvino._compile", lambda *_: pytest.fail("compiled a second time")
    )
    smaller = by_openvino.with_memory(500)
    assert (smaller.memory_limit, by_openvino.memory_limit) == (500_000_000, 2_000_000_000)
    np.testing.assert_array_equal(whole(smaller, plane), expected)


def test_threads_wait_for_each_other(by_openvino: OpenVINOEnhancer) -> None:
    planes = [cells((48 + 8 * i, 64), seed=i) for i in range(3)]
    expected = [whole(by_openvino, plane) for plane in planes]
    found: dict[int, NDArray[np.float32]] = {}

    def work(i: int) -> None:
        found[i] = whole(by_openvino, planes[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(3):
        np.testing.assert_array_equal(found[i], expected[i])


class Stopped(Exception):  # noqa: N818 - not an error
    """Raised by the checkpoint of a test."""


def stop_after(n: int) -> Callable[[], None]:
    left = iter(range(n))

    def checkpoint() -> None:
        if next(left, None) is None:
            raise Stopped

    return checkpoint


@pytest.mark.parametrize("n", [0, 1])
def test_checkpoint_stops_within_the_calibration(
    by_openvino: OpenVINOEnhancer, monkeypatch: pytest.MonkeyPatch, n: int
) -> None:
    monkeypatch.setattr("napari_cellenhance.core.models.openvino_runner._POLL_MS", 1)
    plane = cells((256, 256))
    with pytest.raises(Stopped):
        by_openvino.calibrate([plane], stop_after(n))
    monkeypatch.undo()
    small = cells((40, 60))
    assert np.isfinite(whole(by_openvino, small)).all()  # a stopped graph can be run again


def test_chosen_device_runs_on_the_cpu_with_openvino() -> None:
    pytest.importorskip("openvino")
    choice = choose_device("openvino", "float32")
    assert (choice.device, choice.torch_device, choice.precision) == ("openvino", "cpu", "float32")
    assert choice.note.startswith("running on CPU with OpenVINO")
    assert not choice.is_fallback
    half = choose_device("openvino", "bfloat16")
    assert (half.precision, half.is_fallback) == ("bfloat16", False)


def test_catalogue_opens_a_model_on_openvino() -> None:
    pytest.importorskip("openvino")
    from napari_cellenhance.workflows.catalog import list_filters, open_enhancer

    model = next(info for info in list_filters() if info.group == "NU-Net")
    opened = open_enhancer(model.id, "openvino", "bfloat16")
    assert isinstance(opened.enhancer, OpenVINOEnhancer)
    assert opened.choice.precision == "float32"  # bf16 would round the norms of tiles and planes differently
    frozen = open_enhancer("nunet", "openvino", "bfloat16")
    assert isinstance(frozen.enhancer, FrozenOpenVINOEnhancer)
    assert frozen.choice.precision == "bfloat16"
    assert opened.with_memory(300).enhancer._trunk is opened.enhancer._trunk  # type: ignore[attr-defined]
    assert type(opened.on_cpu("test").enhancer) is NUNetEnhancer


def test_without_the_package_the_cpu_takes_over_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)  # what makes `import openvino` fail
    choice = choose_device("openvino", "float32")
    assert (choice.device, choice.precision, choice.is_fallback) == ("cpu", "float32", True)
    assert 'pip install "napari-cellenhance[openvino]"' in choice.note


@pytest.mark.parametrize(("devices", "reason"), [(["GPU"], "no CPU plugin"), (RuntimeError("no libtbb"), "no libtbb")])
def test_broken_openvino_is_not_used(
    monkeypatch: pytest.MonkeyPatch, devices: list[str] | RuntimeError, reason: str
) -> None:
    class Broken:
        @staticmethod
        def Core() -> Broken:  # noqa: N802 - OpenVINO's name
            return Broken()

        @property
        def available_devices(self) -> list[str]:
            if isinstance(devices, RuntimeError):
                raise devices
            return devices

    monkeypatch.setitem(sys.modules, "openvino", Broken)
    choice = choose_device("openvino", "float32")
    assert choice.device == "cpu"
    assert reason in choice.note


@pytest.mark.skipif(sys.platform != "linux", reason="reads the signal stack of Linux")
def test_the_calling_thread_keeps_its_signal_stack() -> None:
    """OpenVINO's CPU plugin leaves a freed one behind; on the main thread the next Ctrl-C was the end."""
    pytest.importorskip("openvino")
    program = (
        "import os, signal, numpy as np\n"
        "from napari_cellenhance import enhance\n"
        "x = np.random.default_rng(0).random((128, 128)).astype(np.float32)\n"
        "enhance(x, model='nunet', strength=5, axes='YX', device='openvino', tile_px=64)\n"
        "signal.signal(signal.SIGINT, lambda *a: print('interrupted'))\n"
        "os.kill(os.getpid(), signal.SIGINT)\n"
        "print('alive')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=300)
    assert done.stdout.split() == ["interrupted", "alive"], done.stderr
