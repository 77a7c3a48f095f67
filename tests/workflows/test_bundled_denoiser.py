"""The shipped denoiser on shipped pictures: ahead of the best Gaussian, and the same in bf16, tiles, any scale."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

import napari_cellenhance
from napari_cellenhance.core.metrics import scale_invariant_psnr
from napari_cellenhance.core.noise import gaussian, poisson_gaussian
from napari_cellenhance.io import images
from napari_cellenhance.workflows import catalog, denoise
from napari_cellenhance.workflows.denoise import DEFAULT_DENOISER, DenoiseRequest
from napari_cellenhance.zoo.manifest import find_model

SAMPLES = Path(napari_cellenhance.__file__).parent / "samples"


def _plane(name: str) -> NDArray[np.float32]:
    """256 px of the first channel of a sample picture, stretched to 0…1."""
    image = np.asarray(images.read(SAMPLES / f"{name}.tif").image, np.float32)
    while image.ndim > 2:
        image = image[0]
    image = image[:256, :256]
    return ((image - image.min()) / np.ptp(image)).astype(np.float32)


def _denoised(image: NDArray[Any], **settings: Any) -> NDArray[np.float32]:
    job: dict[str, Any] = {"axes": "YX", "device": "cpu", "precision": "float32"} | settings
    return denoise.run(DenoiseRequest(image=image, **job)).image


def test_the_card_tells_data_command_and_scores() -> None:
    card = find_model(DEFAULT_DENOISER)
    assert card.bundled and card.recipe == "n2v" and catalog.describe(DEFAULT_DENOISER).info.group == "Denoising"
    assert "cellenhance train n2v" in str(card.training["notes"]) and "not verified" in str(card.training["notes"])
    rows: Any = card.scores["test"]
    assert len(rows) == 7
    assert all(row["psnr_model"] > row["psnr_noisy"] + 8 for row in rows)
    assert sum(row["psnr_model"] > row["psnr_gaussian_best_sigma"] for row in rows) >= 6


@pytest.mark.parametrize("name", ["nuclei", "ht29"])
@pytest.mark.parametrize("kind", ["read noise", "few photons"])
def test_it_is_ahead_of_the_gaussian_that_the_truth_chooses(name: str, kind: str) -> None:
    clean, rng = _plane(name), np.random.default_rng(0)
    noisy = gaussian(clean, 0.1, rng) if kind == "read noise" else poisson_gaussian(clean, 20.0, 0.02, rng)
    best = max(scale_invariant_psnr(gaussian_filter(noisy, s), clean, 1.0) for s in (0.7, 1.0, 1.5, 2.0, 3.0))
    assert scale_invariant_psnr(_denoised(noisy), clean, 1.0) > best + 0.3


def test_bf16_tiles_and_grey_values() -> None:
    noisy = gaussian(_plane("nuclei"), 0.1, np.random.default_rng(1))
    exact = _denoised(noisy)
    assert np.abs(_denoised(noisy, precision="bfloat16") - exact).max() < 0.02
    assert np.abs(_denoised(noisy, tile_px=64) - exact).max() < 1e-4
    assert np.allclose(_denoised(1000 * noisy + 300), 1000 * exact + 300, atol=1.0)
    assert exact.mean() == pytest.approx(noisy.mean(), rel=0.03), "grey values keep their meaning"
