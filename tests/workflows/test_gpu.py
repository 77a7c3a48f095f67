"""What a graphics card computes is what the CPU computes. Run with ``pytest -m gpu`` on a computer that has one."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from numpy.typing import NDArray

from napari_cellenhance import (
    denoise,
    enhance,
    restore,
    segment,
    separate,
    train_aep,
    train_care,
    train_n2v,
    train_nunet,
    train_voidseg,
)
from napari_cellenhance.core.device import choose_device
from napari_cellenhance.core.microscope import Optics
from napari_cellenhance.core.self_test import self_test
from napari_cellenhance.core.tiling import Region
from napari_cellenhance.workflows import catalog, doctor
from napari_cellenhance.workflows import enhance as enhancing
from napari_cellenhance.workflows.preview import PreviewRequest, PreviewSession
from napari_cellenhance.workflows.requests import EnhanceRequest
from napari_cellenhance.workflows.synthesize import Synthesis

pytestmark = pytest.mark.gpu
LOG = logging.getLogger(__name__)

SAMPLES = Path(__file__).parents[2] / "src" / "napari_cellenhance" / "samples"
EXACT = 1e-3
"""Largest difference of CPU and GPU in float32, of results in 0…1 (METHODS, T-I5)."""
ROUNDED = 2.0 / 255.0
"""The same for bfloat16, but for one pixel in ten thousand."""


@pytest.fixture(autouse=True)
def _card() -> Iterator[None]:
    assert torch.cuda.is_available(), "these tests need a CUDA device; leave out -m gpu where there is none"
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()


@pytest.fixture(scope="module")
def nuclei() -> NDArray[np.uint8]:
    image: NDArray[np.uint8] = tifffile.imread(SAMPLES / "nuclei.tif")[:384, :500]
    return image


def _noisy(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A few photons per pixel, as the restoration learned them."""
    rng = np.random.default_rng(0)
    noisy: NDArray[np.float32] = (rng.poisson(image / 6.0) * 6.0 + rng.normal(0, 4, image.shape)).astype(np.float32)
    return noisy


Method = Callable[..., NDArray[Any]]
METHODS: dict[str, Method] = {
    "nunet-guided": lambda image, **where: enhance(image, model="nunet-guided", strength=5, **where),
    "nunet": lambda image, **where: enhance(image, model="nunet", strength=8, **where),
    "aep-nuclei translated": lambda image, **where: segment(image, "aep-nuclei", output="translated", **where),
    "aep-nuclei probabilities": lambda image, **where: segment(image, "aep-nuclei", output="probabilities", **where),
    "n2v2-fluorescence": lambda image, **where: denoise(image, "n2v2-fluorescence", **where) / 255.0,
    "care-nuclei": lambda image, **where: restore(_noisy(image), "care-nuclei", **where)[0] / 255.0,
    "keep-nuclei": lambda image, **where: separate(image, "keep-nuclei", **where)[0] / 255.0,
}


def test_the_built_in_tile_is_right() -> None:
    verdict = self_test("cuda", has_bfloat16=True)
    assert verdict.is_right, verdict.reason


def test_auto_takes_the_card_and_doctor_says_so() -> None:
    choice = choose_device("auto")
    assert choice.device == "cuda" and torch.cuda.get_device_name() in choice.note
    assert any(torch.cuda.get_device_name() in finding.value for finding in doctor.run().findings)


@pytest.mark.parametrize("name", METHODS)
def test_agrees_with_the_cpu_in_float32(name: str, nuclei: NDArray[np.uint8]) -> None:
    on_cpu = METHODS[name](nuclei, device="cpu", precision="float32")
    on_gpu = METHODS[name](nuclei, device="cuda", precision="float32")
    gap = float(np.abs(on_gpu - on_cpu).max())
    LOG.info("%s, float32: largest difference %.2e", name, gap)
    assert gap <= EXACT


@pytest.mark.parametrize("name", METHODS)
def test_agrees_with_the_cpu_in_bfloat16(name: str, nuclei: NDArray[np.uint8]) -> None:
    on_cpu = METHODS[name](nuclei, device="cpu", precision="float32")
    on_gpu = METHODS[name](nuclei, device="cuda", precision="bfloat16")
    gaps = np.abs(on_gpu - on_cpu)
    LOG.info(
        "%s, bfloat16: largest difference %.2f of 255, typical largest %.2f",
        name,
        *(255 * np.quantile(gaps, (1, 0.9999))),
    )
    limit = ROUNDED if name != "aep-nuclei probabilities" else 0.1  # a softmax is steep where two classes meet
    assert np.quantile(gaps, 0.9999) <= limit


def test_classes_agree_with_the_cpu(nuclei: NDArray[np.uint8]) -> None:
    on_cpu = segment(nuclei, "aep-nuclei", device="cpu", precision="float32")
    on_gpu = segment(nuclei, "aep-nuclei", device="cuda", precision="float32")
    assert (on_cpu == on_gpu).mean() >= 0.9999


@pytest.mark.parametrize("model", ["nunet", "nunet-guided"])
def test_tiles_make_the_whole(model: str, nuclei: NDArray[np.uint8]) -> None:
    whole = enhance(nuclei, model=model, strength=6, device="cuda")
    tiled = enhance(nuclei, model=model, strength=6, device="cuda", tile_px=96)
    assert np.abs(whole - tiled).max() <= 1.0 / 255.0


def test_preview_equals_the_run(nuclei: NDArray[np.uint8]) -> None:
    window = Region(40, 300, 100, 420)
    request = EnhanceRequest(image=nuclei, axes="YX", filter_id="nunet", strength=7, device="cuda", region=window)
    shown = PreviewSession().update(PreviewRequest(enhance=request, position={}, source_key="layer"))
    run = enhancing.run(dataclasses.replace(request, region=None))
    assert np.abs(shown.image - run.image[window.slices]).max() <= 1.0 / 255.0


def test_a_plane_needs_less_memory_than_published(nuclei: NDArray[np.uint8]) -> None:
    """The paper names 1.3 GB for planes of 400²."""
    plane = np.ascontiguousarray(np.pad(nuclei, ((0, 16), (0, 0)), mode="reflect")[:400, :400])
    torch.cuda.reset_peak_memory_stats()
    enhance(plane, model="nunet-guided", device="cuda")
    assert torch.cuda.max_memory_allocated() < 1.3e9 / 2


def test_a_full_card_takes_smaller_tiles(nuclei: NDArray[np.uint8]) -> None:
    """The run goes on, says so, and its pixels are the same."""
    plane = np.tile(nuclei, (4, 4))
    expected = enhance(plane, model="nunet", strength=6, device="cuda", precision="float32", tile_px=256)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_allocated() + 400e6) / total)
    opened = catalog.open_enhancer("nunet", device="cuda", precision="float32")
    request = EnhanceRequest(image=plane, axes="YX", filter_id="nunet", strength=6, tile_px=1500)
    found = enhancing.apply(request, opened)
    assert any("Memory ran out" in warning for warning in found.warnings)
    assert np.abs(found.image - expected).max() <= 1.0 / 255.0


def test_a_card_without_room_gives_way_to_the_cpu(nuclei: NDArray[np.uint8]) -> None:
    expected = enhance(nuclei, model="nunet", strength=6, device="cpu", precision="float32")
    opened = catalog.open_enhancer("nunet", device="cuda", precision="float32")
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 1e6) / total)
    request = EnhanceRequest(image=nuclei, axes="YX", filter_id="nunet", strength=6)
    found = enhancing.apply(request, opened)
    assert any("graphics memory ran out" in warning for warning in found.warnings)
    assert found.provenance["device"] == "cpu"
    assert np.abs(found.image - expected).max() <= EXACT


# --- training ---------------------------------------------------------------------------------

SHORT: dict[str, Any] = {"n_steps": 4, "validate_every": 2, "batch_size": 2, "precision": "float32"}


def _labels(image: NDArray[np.uint8]) -> NDArray[np.int32]:
    from skimage.filters import threshold_otsu
    from skimage.measure import label

    found: NDArray[np.int32] = label(image > threshold_otsu(image)).astype(np.int32)  # type: ignore[no-untyped-call]
    return found


def _nunet(image: NDArray[np.uint8], out: Path, device: str) -> str:
    return train_nunet(
        [image], out, labels=[_labels(image)], teach="labels", model_id="gpu-test", device=device, **SHORT
    )


def _aep(image: NDArray[np.uint8], out: Path, device: str) -> str:
    classes = np.where(_labels(image) > 0, 2, 1)
    return train_aep([image], [classes], out, model_id="gpu-test", device=device, **SHORT, crop_px=64)


def _n2v(image: NDArray[np.uint8], out: Path, device: str) -> str:
    return train_n2v([image], out, model_id="gpu-test", device=device, **SHORT)


def _care(image: NDArray[np.uint8], out: Path, device: str) -> str:
    sharp = Synthesis(optics=Optics(kind="none"))
    return train_care([image], out, model_id="gpu-test", synthesis=sharp, device=device, **SHORT)


def _voidseg(image: NDArray[np.uint8], out: Path, device: str) -> str:
    halves = [image[:, :256], image[:, 256:]]
    labels = [_labels(half) for half in halves]
    return train_voidseg(halves, labels, out, model_id="gpu-test", device=device, **SHORT)


def _stardist(image: NDArray[np.uint8], out: Path, device: str) -> str:
    halves = [image[:, :256], image[:, 256:]]
    labels = [_labels(half) for half in halves]
    return train_voidseg(halves, labels, out, model_id="gpu-test", network="stardist", device=device, **SHORT)


TRAININGS = {"nunet": _nunet, "aep": _aep, "n2v": _n2v, "care": _care, "voidseg": _voidseg, "stardist": _stardist}


@pytest.mark.parametrize("name", TRAININGS)
def test_a_training_goes_the_same_way(name: str, nuclei: NDArray[np.uint8], tmp_path: Path) -> None:
    """First losses of both are equal but for rounding: same crops, same weights, same losses."""
    import csv

    first = []
    for device in ("cpu", "cuda"):
        assert TRAININGS[name](nuclei, tmp_path / device, device) == "gpu-test"
        with (tmp_path / device / "history.csv").open(encoding="utf-8") as file:
            first.append(float(next(csv.DictReader(file))["total"]))
    LOG.info("%s: first loss %.6f on the CPU, %.6f on the GPU", name, *first)
    assert first[1] == pytest.approx(first[0], rel=0.01)
