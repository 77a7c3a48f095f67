"""Models of the user know what their training images were like, and say so where another image is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from napari_cellenhance.core.crops import Background, CropSet, ObjectCrop
from napari_cellenhance.core.input_traits import outside, traits_of
from napari_cellenhance.core.microscope import Optics
from napari_cellenhance.core.synthetic_pairs import SceneSettings
from napari_cellenhance.workflows import denoise, train, train_aep, train_care, train_n2v, train_semantic, train_voidseg
from napari_cellenhance.workflows._train_ranges import input_ranges
from napari_cellenhance.workflows.denoise import DenoiseRequest
from napari_cellenhance.workflows.noisy_images import NoisyLayer
from napari_cellenhance.workflows.painted_layers import PaintedLayer
from napari_cellenhance.workflows.synthesize import Synthesis
from napari_cellenhance.workflows.train import TrainRequest
from napari_cellenhance.workflows.train_aep import AEPRequest
from napari_cellenhance.workflows.train_care import CareRequest
from napari_cellenhance.workflows.train_n2v import N2VRequest
from napari_cellenhance.workflows.train_semantic import SemanticRequest
from napari_cellenhance.workflows.train_voidseg import VoidSegRequest
from napari_cellenhance.zoo.manifest import find_model

SIDE = 128
SHORT: dict[str, Any] = {"model_id": "mine", "n_steps": 2, "validate_every": 2, "batch_size": 2, "precision": "float32"}


def _cells(seed: int = 0, noise: float = 6.0) -> tuple[NDArray[np.uint16], NDArray[np.int32]]:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE]
    labels = np.zeros((SIDE, SIDE), np.int32)
    grid = np.mgrid[16:SIDE:32, 16:SIDE:32].reshape(2, -1).T  # cells in every part of the image
    for number, (cy, cx) in enumerate(grid + rng.uniform(-6, 6, grid.shape), start=1):
        labels[np.hypot(y - cy, x - cx) < 7] = number
    image = 100 + 200 * gaussian_filter((labels > 0).astype(float), 1) + rng.normal(0, noise, labels.shape)
    return image.clip(0).astype(np.uint16), labels


def _n2v(out: Path) -> Any:
    layers = (NoisyLayer(name="cells", image=_cells()[0], axes="YX"),)
    return train_n2v.run(N2VRequest(data=layers, out=out, patch_px=32, width=4, **SHORT))


def _care(out: Path) -> Any:
    layers = tuple(NoisyLayer(name=f"cells {n}", image=_cells(n)[0], axes="YX") for n in range(3))
    plain = Synthesis(optics=Optics(kind="none"))
    return train_care.run(
        CareRequest(data=layers, out=out, synthesis=plain, patch_px=32, width=4, kernel_px=3, **SHORT)
    )


def _painted() -> tuple[PaintedLayer, ...]:
    image, labels = _cells()
    classes = np.where(labels > 0, 2, 1) * (np.arange(SIDE) % 3 == 0)
    return (PaintedLayer(name="cells", image=image, axes="YX", labels=classes.astype(np.int32)),)


def _aep(out: Path) -> Any:
    return train_aep.run(AEPRequest(data=_painted(), out=out, crop_px=32, **SHORT))


def _voidseg(out: Path) -> Any:
    image, labels = _cells()
    layer = replace(_painted()[0], image=image, labels=labels, painted_as="instances", is_complete=True)
    return train_voidseg.run(VoidSegRequest(data=(layer,), out=out, crop_px=32, depth=1, width=4, **SHORT))


def _nunet(out: Path) -> Any:
    folder = out.parent / "images"
    folder.mkdir()
    for n in range(3):
        tifffile.imwrite(folder / f"{n}.tif", _cells(n)[0])
    return train.run(TrainRequest(
        data=folder, out=out, perception="random", crop_px=64, n_masks=8, style_groups=2,
        recipe_options={"n_validation": 2, "n_dry_run": 1, "diameters_px": (10.0, 20.0)}, **SHORT,
    ))  # fmt: skip


def _movie(out: Path) -> Any:
    frames = np.stack([_cells(n)[0] for n in range(6)])
    layers = (NoisyLayer(name="movie", image=frames, axes="TYX"),)
    return train_semantic.run(SemanticRequest(data=layers, out=out, patch_px=64, width=4, is_movie=True, **SHORT))


def _crops(out: Path) -> Any:
    y, x = np.mgrid[:20, :20]
    mask, names = np.hypot(y - 10, x - 10) < 7, ("a.tif", "b.tif", "c.tif")
    pixels = np.where(mask, 200.0, 0.0).astype(np.float32)
    crops = tuple(ObjectCrop(pixels=pixels, mask=mask, source=name, box=(0, 0, 20, 20)) for name in names)
    grounds = tuple(
        Background(pixels=_cells(n)[0].astype(np.float32), mask=np.zeros((SIDE, SIDE), bool), source=name)
        for n, name in enumerate(names)
    )
    scene = SceneSettings(size_px=64, n_target=(1, 2), n_unwanted=(1, 2))
    data = CropSet(target=crops, unwanted=crops, backgrounds=grounds)
    return train_semantic.run(SemanticRequest(data=data, out=out, scene=scene, width=4, **SHORT))


TRAININGS: dict[str, Callable[[Path], Any]] = {
    "n2v": _n2v, "care": _care, "aep": _aep, "voidseg": _voidseg, "nunet": _nunet, "movie": _movie, "crops": _crops,
}  # fmt: skip


@pytest.mark.parametrize("method", TRAININGS)
def test_a_trained_model_knows_what_its_images_were_like(method: str, tmp_path: Path) -> None:
    TRAININGS[method](tmp_path / "out")
    ranges = find_model("mine").input_ranges
    assert {"size_px", "noise", "slope", "skew", "ground"} <= set(ranges)
    assert all(low <= high for low, high in ranges.values())
    if method in ("n2v", "aep", "voidseg", "movie"):
        assert outside(traits_of(_cells()[0]), ranges) == [], "the training image itself is like those of the training"
        other = _cells(9)[0]
        assert outside(traits_of(other), ranges) == [], "and so is another field of the same specimen"
        assert "noise" in {one.trait for one in outside(traits_of(_cells(0, noise=90.0)[0]), ranges)}


def test_a_run_of_an_own_model_says_that_an_image_is_unlike(tmp_path: Path) -> None:
    _n2v(tmp_path / "out")
    alike = denoise.run(DenoiseRequest(image=_cells(9)[0], axes="YX", model_id="mine"))
    assert not any("unlike" in sentence for sentence in alike.warnings)
    unlike = denoise.run(DenoiseRequest(image=_cells(9, noise=90.0)[0], axes="YX", model_id="mine"))
    told = [sentence for sentence in unlike.warnings if "unlike those that mine learned from" in sentence]
    assert any("noisier" in sentence for sentence in told), unlike.warnings


def test_what_a_model_started_from_counts_too() -> None:
    image, _ = _cells()
    alone, on = input_ranges([image], None), input_ranges([image], "n2v2-fluorescence")
    parent = find_model("n2v2-fluorescence").input_ranges
    assert on["noise"][1] == max(alone["noise"][1], parent["noise"][1])
    assert on["slope"][0] == min(alone["slope"][0], parent["slope"][0])
    assert input_ranges([image], "gone") == alone
    assert input_ranges([image[:40, :40]], None) == {}, "too small to tell anything"
