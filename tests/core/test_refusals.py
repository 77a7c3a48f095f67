"""What the arithmetic refuses, each with a sentence that says what came; and what it makes of images that are empty."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from napari_cellenhance.core import half_inputs, input_traits, placed_crops, postprocess, targets
from napari_cellenhance.core.affine_fit import PairMoments
from napari_cellenhance.core.crop_library import _without_either
from napari_cellenhance.core.crops import Background
from napari_cellenhance.core.device import DeviceChoice
from napari_cellenhance.core.errors import CellEnhanceError
from napari_cellenhance.core.losses.nunet import StyleBank, morphological_loss
from napari_cellenhance.core.microscope import LEVELS, Optics, Preparation
from napari_cellenhance.core.models.aep import AEP
from napari_cellenhance.core.models.csb_unet import CSBUNet
from napari_cellenhance.core.models.denoiser import DenoisingNetwork
from napari_cellenhance.core.models.nunet import NUNet
from napari_cellenhance.core.models.voidseg import VoidSegNetwork
from napari_cellenhance.core.normalize import fit_normalizer
from napari_cellenhance.core.object_size import suggest_diameter
from napari_cellenhance.core.processing import Step, apply_steps, steps_of
from napari_cellenhance.core.recipes.aep_enhancer import AEPEnhancer
from napari_cellenhance.core.recipes.care import CareTraining
from napari_cellenhance.core.recipes.protocol import FilterInfo, StrengthInfo
from napari_cellenhance.core.recipes.restorer import Restorer
from napari_cellenhance.core.sources import ImageSource
from napari_cellenhance.core.training import FitSettings

PLANE = np.ones((8, 8), np.float32)
CPU = DeviceChoice(device="cpu", precision="float32", note="")
INFO = FilterInfo(
    id="x", title="", group="", summary="", strength=StrengthInfo(label="", help="", default=1, maximum=1)
)
BANK = StyleBank((torch.zeros(1, 3, 3),), (0.5,), "x")


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: Step("scale_range", {"min_percentile": 9.0, "max_percentile": 5.0}), "percentiles 9 and 5"),
        (lambda: steps_of([{"name": "scale_range", "min_percentile": [1, 2]}]), "no single numbers"),
        (lambda: Optics(kind="square"), "the PSF is 'square'"),  # type: ignore[arg-type]
        (lambda: Optics(na=0.0), "NA 0.0"),
        (lambda: Optics(pixel_um=-1.0), "pixels of -1.0 µm"),
        (lambda: Preparation(lo=50.0, hi=50.0), "percentiles are 50.0 and 50.0"),
        (lambda: Preparation(radius_px=11.0), "radius of 11.0 px"),
        (lambda: type(LEVELS[0])(name="dark", saturation=0.0), "saturation of the level 'dark' is 0.0"),
        (lambda: fit_normalizer("fixed_log", PLANE, low=5.0, high=2.0), "logarithm runs from 5.0 to 2.0"),
        (lambda: postprocess.segment(PLANE, min_size_px=-1), "minimum size is -1 px"),
        (lambda: postprocess.segment(PLANE, split_depth=1.0), "split depth is 1.0"),
        (lambda: placed_crops.OverlapRule((8, 8), 1.5), "largest overlap is 1.5"),
        (lambda: ImageSource("cells", [PLANE], [], [None]), "lists of different lengths"),
        (lambda: ImageSource("cells", [PLANE], [5.0], [None], weight=0.0), "weight 0.0"),
        (lambda: DenoisingNetwork(n_channels=0), "0 channels"),
        (lambda: DenoisingNetwork(statistics="other"), "statistics 'other'"),  # type: ignore[arg-type]
        (lambda: NUNet(norm="batch"), "norm is 'batch'"),  # type: ignore[arg-type]
        (lambda: VoidSegNetwork(n_in=2), "planes of one channel"),
        (lambda: VoidSegNetwork(n_dims=3), "planes of one channel"),
        (lambda: AEPEnhancer(AEP(2), INFO, CPU, filter_index=2), "filter 2 was asked for; the model has 2"),
        (lambda: Restorer(CSBUNet(n_in=2), CPU), "several channels"),
        (lambda: CareTraining(loss="l1"), "loss 'l1'"),  # type: ignore[arg-type]
        (lambda: CareTraining(lo=50.0, hi=50.0), "percentiles are 50.0 and 50.0"),
        (lambda: StrengthInfo(label="", help="", default=5.0, maximum=4.0), "0.0…4.0 with default 5.0"),
        (lambda: FitSettings(average=1.0), "average is 1.0"),
        (lambda: FitSettings(keep="first"), "keep is 'first'"),  # type: ignore[arg-type]
        (lambda: StyleBank((torch.zeros(2, 3, 3), torch.zeros(1, 3, 3)), (0.1, 0.2), "x"), r"\[1, 2\] groups"),
        (lambda: morphological_loss([torch.zeros(1, 3, 8, 8)] * 2, BANK), "2 taps were given to a style bank of 1"),
    ],
)  # fmt: skip
def test_settings_that_make_no_sense(call: Callable[[], Any], sentence: str) -> None:
    with pytest.raises(CellEnhanceError, match=sentence):
        call()


def test_softmax_over_channels_sums_to_one() -> None:
    image = np.random.default_rng(0).normal(0, 50, (3, 4, 5)).astype(np.float32)
    found = apply_steps([Step("softmax", {})], [None], image)
    np.testing.assert_allclose(found.sum(axis=0), 1, rtol=1e-6)
    np.testing.assert_array_equal(found.argmax(axis=0), image.argmax(axis=0))


def test_no_pixels_change_no_moments() -> None:
    moments = PairMoments()
    moments.add([1.0, 2.0], [2.0, 4.0])
    moments.add([], [])
    assert (moments.n, moments.slope) == (2, 2.0)


def test_an_even_image_is_its_own_target() -> None:
    both = targets.from_image(np.zeros((16, 16), np.float32))
    assert all(np.array_equal(one, np.zeros((16, 16))) for one in both)


def test_grounds_that_are_covered_twice_leave_nothing() -> None:
    pixels, mask = np.ones((4, 4), np.float32), np.zeros((4, 4), bool)
    left, right = mask.copy(), mask.copy()
    left[:, :2], right[:, 2:] = True, True
    one, other = (Background(pixels=pixels, mask=part, source="a") for part in (left, right))
    assert _without_either(one, other) == []
    (kept,) = _without_either(one, Background(pixels=pixels, mask=mask, source="a"))
    np.testing.assert_array_equal(kept.mask, left)


def test_a_size_beyond_the_range_is_its_end() -> None:
    y, x = np.indices((96, 96)) - 48
    flat = np.exp(-(y**2 + x**2) / (2 * 400.0**2))  # wider than anything that is looked for
    assert suggest_diameter(flat.astype(np.float32)) > 20


def test_images_without_structure_have_no_width_and_no_ranges() -> None:
    assert input_traits._half_width(np.zeros((8, 8)), 1.0) == 0.5
    assert input_traits.ranges_over([np.zeros((64, 64))]) == {}


def test_halves_that_are_even_hold_no_objects() -> None:
    even = np.full((16, 16), 3.0, np.float32)
    found = half_inputs.compare_halves(even, even, contrast=1.0)
    assert not found.flags.any() and not found.difference.any()
