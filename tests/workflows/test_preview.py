"""What the preview shows is what the run returns."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.core.inference import Cancelled
from napari_cellenhance.core.recipes.nunet_enhancer import NUNetEnhancer
from napari_cellenhance.core.tiling import Region
from napari_cellenhance.workflows import catalog, enhance, preview
from napari_cellenhance.workflows.preview import PreviewRequest, PreviewSession
from napari_cellenhance.workflows.requests import EnhanceRequest

Stack = Callable[..., NDArray[np.uint16]]
STEP = 1.0 / 255.0
WINDOW = Region(11, 70, 20, 101)


@pytest.fixture
def view_of(seeded_model: str) -> Callable[..., PreviewRequest]:
    """Maker of preview requests for the seeded network on the CPU."""

    def make(image: Any, axes: str, position: dict[str, int] | None = None, **changes: Any) -> PreviewRequest:
        settings = {"filter_id": seeded_model, "device": "cpu", "precision": "float32", "region": WINDOW} | changes
        request = EnhanceRequest(image=image, axes=axes, **settings)
        return PreviewRequest(enhance=request, position=position or {}, source_key="layer 1")

    return make


ViewOf = Callable[..., PreviewRequest]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Count how often the network is calibrated, encoded and decoded."""
    counted = dict.fromkeys(("calibrate", "calibrate_and_encode", "encode", "decode"), 0)
    for name in counted:
        original = getattr(NUNetEnhancer, name)

        def counting(self: Any, *args: Any, _name: str = name, _original: Any = original) -> Any:
            counted[_name] += 1
            return _original(self, *args)

        monkeypatch.setattr(NUNetEnhancer, name, counting)
    return counted


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("statistics", ["plane", "stack"])
@pytest.mark.parametrize("changes", [{}, {"objects_are_dark": True}, {"strength": 1.2}])
def test_preview_equals_the_run_on_every_pixel(
    view_of: ViewOf, stack: Stack, precision: str, statistics: str, changes: dict[str, Any]
) -> None:
    view = view_of(stack(3, 96, 130), "ZYX", {"Z": 2}, precision=precision, statistics=statistics, **changes)
    result = PreviewSession().update(view)
    run = enhance.run(dataclasses.replace(view.enhance, region=None))
    assert result.image.dtype == np.float32
    assert not result.is_approximate
    assert np.abs(result.image - run.image[2][WINDOW.slices]).max() <= (0.01 if precision == "float32" else 1.0) * STEP


@pytest.mark.parametrize("filter_id", [info.id for info in catalog.CLASSICAL])
def test_preview_of_classical_filters_equals_their_run(view_of: ViewOf, stack: Stack, filter_id: str) -> None:
    view = view_of(stack(96, 130), "YX", filter_id=filter_id)
    result = PreviewSession().update(view)
    run = enhance.run(dataclasses.replace(view.enhance, region=None))
    np.testing.assert_allclose(result.image, run.image[WINDOW.slices], atol=STEP)
    tiled = enhance.run(dataclasses.replace(view.enhance, region=None, tile_px=40))
    np.testing.assert_allclose(tiled.image, run.image, atol=STEP)


def test_a_slider_move_only_decodes(view_of: ViewOf, stack: Stack, calls: dict[str, int]) -> None:
    session, image = PreviewSession(), stack(96, 130)
    results = [session.update(view_of(image, "YX", strength=w)) for w in (3.0, 5.0, 7.0)]
    assert calls["calibrate"] + calls["calibrate_and_encode"] == 1
    assert calls["encode"] == 1
    assert calls["decode"] == 3
    assert np.abs(results[0].image - results[2].image).max() > STEP


def test_a_pan_encodes_but_does_not_measure_again(view_of: ViewOf, stack: Stack, calls: dict[str, int]) -> None:
    session, image = PreviewSession(), stack(96, 130)
    for x in (0, 10, 20):
        session.update(view_of(image, "YX", region=Region(0, 64, x, x + 64)))
    session.update(view_of(image, "YX", region=Region(0, 64, 10, 74)))
    assert calls["calibrate"] + calls["calibrate_and_encode"] == 1
    assert calls["encode"] == 3


def test_a_view_of_the_whole_plane_takes_one_pass(view_of: ViewOf, stack: Stack, calls: dict[str, int]) -> None:
    session, view = PreviewSession(), view_of(stack(64, 80), "YX", region=None)
    result = session.update(view)
    assert calls == {"calibrate": 0, "calibrate_and_encode": 1, "encode": 0, "decode": 1}
    np.testing.assert_allclose(result.image, enhance.run(view.enhance).image, atol=0.01 * STEP)


def test_new_pixels_under_a_new_key_are_measured_again(view_of: ViewOf, stack: Stack) -> None:
    session, first, second = PreviewSession(), stack(96, 130, seed=1), stack(96, 130, seed=2)
    session.update(view_of(first, "YX"))
    view = dataclasses.replace(view_of(second, "YX"), source_key="layer 1, edited")
    expected = PreviewSession().update(view).image
    np.testing.assert_array_equal(session.update(view).image, expected)


def test_settings_that_change_the_statistics_are_told_apart(view_of: ViewOf, stack: Stack) -> None:
    session, image = PreviewSession(), stack(2, 96, 130)
    variants: list[dict[str, Any]] = [
        {"position": {"Z": 0}},
        {"position": {"Z": 1}},
        {"position": {"Z": 0}, "objects_are_dark": True},
        {"position": {"Z": 0}, "statistics": "stack"},
        {"position": {"Z": 0}, "precision": "bfloat16"},
    ]
    for variant in variants * 2:
        view = view_of(image, "ZYX", **variant)
        np.testing.assert_array_equal(session.update(view).image, PreviewSession().update(view).image)


@pytest.fixture
def large_planes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat the test's planes as too large to be measured at once."""
    monkeypatch.setattr(preview, "APPROXIMATE_ABOVE_PX", 1000)


@pytest.mark.parametrize("statistics", ["plane", "stack"])
@pytest.mark.usefixtures("large_planes")
def test_a_large_plane_is_approximate_until_it_is_calibrated(
    view_of: ViewOf, stack: Stack, statistics: str, calls: dict[str, int]
) -> None:
    session = PreviewSession()
    view = view_of(stack(2, 160, 190), "ZYX", {"Z": 1}, statistics=statistics)
    first = session.update(view)
    assert first.is_approximate
    assert np.isfinite(first.image).all()
    session.calibrate(view)
    exact = session.update(view)
    assert not exact.is_approximate
    run = enhance.run(dataclasses.replace(view.enhance, region=None))
    np.testing.assert_allclose(exact.image, run.image[1][WINDOW.slices], atol=0.01 * STEP)
    assert np.abs(first.image - exact.image).max() > 0
    before = calls["calibrate"]
    moved = dataclasses.replace(view, enhance=dataclasses.replace(view.enhance, region=Region(0, 50, 0, 50)))
    assert not session.update(moved).is_approximate
    assert calls["calibrate"] == before


@pytest.mark.usefixtures("large_planes")
def test_an_approximate_view_reads_only_what_it_shows(view_of: ViewOf, stack: Stack) -> None:
    class Watched:
        """Array that remembers the largest piece it was asked for."""

        largest = 0

        def __init__(self, pixels: NDArray[Any]) -> None:
            self.pixels, self.shape, self.dtype, self.ndim = pixels, pixels.shape, pixels.dtype, pixels.ndim
            self.chunks = (32, 32)

        def __getitem__(self, index: Any) -> NDArray[Any]:
            piece = self.pixels[index]
            Watched.largest = max(Watched.largest, piece.size)
            return piece

    image = stack(320, 400)
    session = PreviewSession()
    session.update(view_of(image, "YX"))
    result = session.update(view_of(Watched(image), "YX", region=Region(30, 60, 30, 60)))
    assert result.is_approximate
    assert 0 < Watched.largest <= 32 * 32


def test_strength_zero_shows_the_input_on_the_same_scale(view_of: ViewOf, stack: Stack) -> None:
    image = stack(96, 130)
    for dark in (False, True):
        result = PreviewSession().update(view_of(image, "YX", strength=0.0, objects_are_dark=dark))
        low, high = np.percentile(image, [0.1, 99.9])
        assert result.is_identity
        expected = np.clip((image - low) / (high - low), 0, 1)[WINDOW.slices]
        np.testing.assert_allclose(result.image, expected, atol=1e-5)


def test_colour_is_previewed_in_colour(view_of: ViewOf, stack: Stack) -> None:
    image = np.moveaxis(stack(3, 96, 130), 0, -1).astype(np.uint8)
    view = view_of(image, "YXS")
    result = PreviewSession().update(view)
    assert result.image.shape == (*WINDOW.shape, 3)
    run = enhance.run(dataclasses.replace(view.enhance, region=None))
    np.testing.assert_allclose(result.image, run.image[WINDOW.slices], atol=0.01 * STEP)


@pytest.mark.parametrize(
    ("channels", "shown", "expected"), [("all", 2, 2), ((0, 2), 2, 2), ((0, 2), 1, 0), ((1,), 2, 1)]
)
def test_the_shown_channel_is_found_among_the_chosen(
    view_of: ViewOf, stack: Stack, channels: Any, shown: int, expected: int
) -> None:
    image = stack(3, 96, 130)
    result = PreviewSession().update(view_of(image, "CYX", {"C": shown}, channels=channels))
    alone = PreviewSession().update(view_of(image[expected], "YX"))
    np.testing.assert_array_equal(result.image, alone.image)


def test_a_flat_plane_shows_zeros(view_of: ViewOf) -> None:
    result = PreviewSession().update(view_of(np.full((96, 130), 3), "YX"))
    assert result.image.shape == WINDOW.shape
    assert not result.image.any()


def test_a_view_that_nobody_waits_for_stops(view_of: ViewOf, stack: Stack) -> None:
    session, view = PreviewSession(), view_of(stack(96, 130), "YX")
    with pytest.raises(Cancelled):
        session.update(view, is_cancelled=lambda: True)
    assert np.isfinite(session.update(view).image).all()


def test_a_position_outside_is_refused(view_of: ViewOf, stack: Stack) -> None:
    with pytest.raises(ParameterError, match="position 5 along Z"):
        PreviewSession().update(view_of(stack(2, 96, 130), "ZYX", {"Z": 5}))


def test_clear_forgets_everything(view_of: ViewOf, stack: Stack, calls: dict[str, int]) -> None:
    session, view = PreviewSession(), view_of(stack(96, 130), "YX")
    session.update(view)
    session.clear()
    session.update(view)
    assert calls["encode"] == 2


def test_a_model_that_was_trained_anew_is_loaded_anew(view_of: ViewOf, stack: Stack) -> None:
    from napari_cellenhance.zoo.manifest import find_model
    from napari_cellenhance.zoo.weights import load_model, save_user_model

    session, view = PreviewSession(), view_of(stack(96, 130), "YX")
    before = session.update(view).image
    card = find_model(view.enhance.filter_id)
    state = {name: 0.5 * weight for name, weight in load_model(card).state_dict().items()}
    save_user_model(state, card)
    assert not np.allclose(session.update(view).image, before)


def test_result_tells_device_latency_and_strength(view_of: ViewOf, stack: Stack) -> None:
    result = PreviewSession().update(view_of(stack(96, 130), "YX", strength=99.0))
    assert result.device_note.startswith("running on CPU")
    assert result.latency_s > 0
    assert result.strength == 10.0
    assert result.region == WINDOW


def test_what_is_prepared_is_not_imported_by_the_first_update() -> None:
    """In a program of its own: here torch is there already."""
    code = """
import sys
import numpy as np
from napari_cellenhance.core.tiling import Region
from napari_cellenhance.workflows.preview import PreviewRequest, PreviewSession
from napari_cellenhance.workflows.requests import EnhanceRequest

session, image = PreviewSession(), np.random.default_rng(0).random((64, 64), np.float32)
assert "torch" not in sys.modules
session.prepare()
before = set(sys.modules)
request = EnhanceRequest(image=image, axes="YX", device="cpu", region=Region(0, 64, 0, 64))
session.update(PreviewRequest(enhance=request, source_key=1))
print(sorted(name for name in set(sys.modules) - before if name.startswith(("torch.", "napari_cellenhance."))))
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip() == "[]"
