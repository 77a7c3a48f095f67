"""Difference, resolution, numbers and figure of images before and after."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
from PIL import Image

import napari_cellenhance
from napari_cellenhance.core.errors import ImageError, ParameterError, TargetExistsError
from napari_cellenhance.io.comparison_figures import bar_length
from napari_cellenhance.workflows._measured import MeasuredImage, TruePoints
from napari_cellenhance.workflows.compare_numbers import (
    COLUMNS,
    DEFINITIONS,
    NumbersRequest,
    measure_numbers,
    to_markdown,
)
from napari_cellenhance.workflows.comparison_figure import FiguredImage, FigureRequest, draw
from napari_cellenhance.workflows.difference import DifferenceRequest, subtract
from napari_cellenhance.workflows.resolution import ResolutionRequest
from napari_cellenhance.workflows.resolution import measure as measure_resolution


def image(name: str, pixels: Any, axes: str = "YX", **more: Any) -> MeasuredImage:
    return MeasuredImage(name=name, image=pixels, axes=axes, **more)


@pytest.fixture
def discs(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Twelve discs: labels, centres, the clean image, a noisy one, and an enhanced one in 0…1."""
    yy, xx = np.indices((96, 128))
    labels, centres = np.zeros((96, 128), np.int32), []
    for number, (y, x) in enumerate(((y, x) for y in (16, 48, 80) for x in (16, 48, 80, 112)), start=1):
        labels[(yy - y) ** 2 + (xx - x) ** 2 <= 64] = number
        centres.append((y, x))
    clean = 100.0 + 400.0 * (labels > 0)
    return {
        "labels": labels,
        "points": np.array(centres, float),
        "clean": clean,
        "noisy": (clean + rng.normal(0, 40, clean.shape)).clip(0).astype(np.uint16),
        "enhanced": (labels > 0).astype(np.float32),
    }


# --- difference -----------------------------------------------------------------------------


def test_a_plain_difference_is_after_less_before() -> None:
    before, after = np.array([[10, 200], [30, 40]], np.uint8), np.array([[5, 210], [30, 0]], np.uint8)
    found = subtract(DifferenceRequest(before=image("b", before), after=image("a", after), how="plain"))
    assert found is not None and found.image.dtype == np.float32
    assert found.image.tolist() == [[-5, 10], [0, -40]] and found.formula == "after − before"


def test_a_fitted_difference_ignores_scale_and_shift(rng: np.random.Generator) -> None:
    before = rng.normal(500, 50, (3, 40, 40))
    after = (before - 100) / 250
    after[1, 5, 5] += 1
    asked = DifferenceRequest(before=image("b", before, "ZYX"), after=image("a", after, "ZYX"))
    found = subtract(asked)
    assert found is not None
    assert found.slope == pytest.approx(250, rel=0.02) and found.offset == pytest.approx(100, rel=0.05)
    assert found.image[1, 5, 5] > 200 and np.abs(np.delete(found.image.ravel(), 1600 + 205)).max() < 10
    assert found.formula.endswith("− before") and "× after" in found.formula
    assert found.record["how"] == "fitted" and found.record["before"]["name"] == "b"


def test_a_difference_of_dask_stays_lazy_and_is_the_same(rng: np.random.Generator) -> None:
    before, after = rng.random((4, 20, 30)), rng.random((4, 20, 30))
    read: list[int] = []

    def watch(block: np.ndarray) -> np.ndarray:
        read.append(1)
        return block

    lazy = da.from_array(before, chunks=(1, 20, 30)).map_blocks(watch, dtype=float, meta=np.zeros((0, 0, 0)))
    in_memory = subtract(DifferenceRequest(before=image("b", before, "ZYX"), after=image("a", after, "ZYX")))
    found = subtract(DifferenceRequest(before=image("b", lazy, "ZYX"), after=image("a", after, "ZYX")))
    assert found is not None and in_memory is not None
    assert isinstance(found.image, da.Array) and found.image.chunksize[0] <= 4
    n_read = len(read)
    assert n_read <= 8, "each plane once for the fit, once for the limit"
    np.testing.assert_allclose(found.image.compute(), in_memory.image, rtol=1e-5, atol=1e-6)


def test_what_cannot_be_subtracted_is_told(rng: np.random.Generator) -> None:
    plane = rng.random((8, 8))
    with pytest.raises(ImageError, match="colour image"):
        subtract(DifferenceRequest(before=image("rgb", rng.random((8, 8, 3)), "YXS"), after=image("a", plane)))
    with pytest.raises(ImageError, match="expected the same"):
        subtract(DifferenceRequest(before=image("b", plane), after=image("a", plane[:4])))
    with pytest.raises(ParameterError, match="fitted or plain"):
        DifferenceRequest(before=image("b", plane), after=image("a", plane), how="other")  # type: ignore[arg-type]
    asked = DifferenceRequest(before=image("b", plane), after=image("a", plane))
    assert subtract(asked, is_cancelled=lambda: True) is None


# --- resolution -----------------------------------------------------------------------------


def blobs(rng: np.random.Generator, cutoff: float) -> np.ndarray:
    spectrum = np.fft.fft2(rng.normal(size=(128, 128)))
    spectrum[np.hypot(np.fft.fftfreq(128)[:, None], np.fft.fftfreq(128)) > cutoff] = 0
    plane = np.fft.ifft2(spectrum).real
    return np.asarray(plane / plane.std())


def test_resolution_in_px_and_um(rng: np.random.Generator) -> None:
    truth = blobs(rng, 0.15)
    first, second = (truth + rng.normal(0, 0.8, truth.shape) for _ in range(2))
    asked = ResolutionRequest(image=image("a", first), second=image("b", second), pixel_um=(0.2, 0.2))
    found = measure_resolution(asked)
    assert 1 / found.resolution_px == pytest.approx(0.15, abs=0.025)
    assert found.resolution_um == pytest.approx(0.2 * found.resolution_px) and found.is_pair
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        called = napari_cellenhance.resolution(first, second, pixel_size_um=0.2)
    assert called["um"] == found.resolution_um and called["n_planes"] == 1
    with pytest.warns(UserWarning, match="neighbouring pixels"):
        alone = napari_cellenhance.resolution(np.stack([first, second]), axes="ZYX")
    assert alone["n_planes"] == 2 and alone["px"] == pytest.approx(called["px"], rel=0.25) and np.isnan(alone["um"])


def test_pixels_that_are_no_squares_are_refused(rng: np.random.Generator) -> None:
    with pytest.raises(ImageError, match=r"0\.3 × 0\.1 µm.*square ones"):
        measure_resolution(ResolutionRequest(image=image("a", rng.random((64, 64))), pixel_um=(0.3, 0.1)))


# --- numbers --------------------------------------------------------------------------------


def test_all_numbers_with_labels_reference_and_points(discs: dict[str, np.ndarray]) -> None:
    request = NumbersRequest(
        before=image("noisy", discs["noisy"]), after=(image("enhanced", discs["enhanced"]),), pixel_um=(0.5, 0.5),
        labels=image("labels", discs["labels"]), reference=image("clean", discs["clean"]),
        points=TruePoints(name="centres", points=discs["points"]),
    )  # fmt: skip
    found = measure_numbers(request)
    before, after = found.rows
    assert before["contrast_ratio"] == pytest.approx(5, rel=0.05) and after["auroc"] == 1.0
    assert before["snr"] == pytest.approx(10, rel=0.1) and after["snr"] == np.inf
    assert before["frc_um"] == pytest.approx(0.5 * before["frc_px"])
    assert before["psnr_db"] == pytest.approx(20, abs=0.5) and before["mae"] == pytest.approx(32, rel=0.05)
    assert after["affine_psnr_db"] == np.inf and after["n_found"] == 12
    assert after["ap_50"] == after["f1_50"] == after["seg"] == after["points_f1"] == 1.0
    assert any("scales differ" in note for note in found.notes), "0…1 is compared with grey values"
    assert found.record["mask"] == "labels" and set(found.record["definitions"]) == set(COLUMNS) == set(DEFINITIONS)
    assert "| enhanced | " in to_markdown(found)


def test_numbers_without_truth_say_how_the_mask_came_about(discs: dict[str, np.ndarray]) -> None:
    request = NumbersRequest(
        before=image("noisy", discs["noisy"]), after=(image("enhanced", discs["enhanced"]),), pixel_um=(1.0, 0.5)
    )
    found = measure_numbers(request)
    assert any("Otsu" in note for note in found.notes) and "automatic" in found.record["mask"]
    assert any(note.startswith("No resolution") and "square" in note for note in found.notes)
    assert all(np.isnan(row[key]) for row in found.rows for key in ("frc_px", "psnr_db", "ap_50", "points_f1"))
    assert "FRC" not in to_markdown(found), "a column of which nothing is known is left out"
    stopped = measure_numbers(request, is_cancelled=lambda: True)
    assert not stopped.is_complete and not stopped.rows


# --- figure ---------------------------------------------------------------------------------


def request_of(discs: dict[str, np.ndarray], **more: Any) -> FigureRequest:
    record = {"title": "NU-Net", "version": "1.2", "strength": 8.0, "sha256": "ab" * 32}
    return FigureRequest(
        before=FiguredImage(image=image("raw", discs["noisy"]), limits=(0.0, 700.0)),
        after=(FiguredImage(image=image("raw enhanced", discs["enhanced"]), record=record),),
        pixel_um=(0.5, 0.5), **more,
    )  # fmt: skip


def test_a_figure_has_its_record_and_its_ground(discs: dict[str, np.ndarray], tmp_path: Path) -> None:
    pictures = {}
    for ground in ("white", "black"):
        written = draw(request_of(discs, background=ground), tmp_path / f"{ground}.png")
        assert [path.name for path in written] == [f"{ground}.png", f"{ground}.png.json"]
        pictures[ground] = np.asarray(Image.open(written[0]).convert("L"))
    assert pictures["white"][0, 0] == 255 and pictures["black"][0, 0] == 0
    assert pictures["white"].shape[1] > 2000, "print resolution"
    record = json.loads((tmp_path / "white.png.json").read_text(encoding="utf-8"))
    assert record["contrast_limits"][0] == [0.0, 700.0] and record["contrast_limits"][1] == [0.0, 1.0]
    low, high = record["contrast_limits"][2]
    assert low == -high, "the difference is symmetric around 0"
    assert "× after" in record["difference"][0] and record["records"][1]["strength"] == 8.0
    assert "raw enhanced: NU-Net 1.2, strength 8, weights abababab" in record["small_print"]


@pytest.mark.parametrize("suffix", [".svg", ".pdf"])
def test_text_of_vector_figures_stays_text(discs: dict[str, np.ndarray], tmp_path: Path, suffix: str) -> None:
    written = draw(request_of(discs), tmp_path / f"figure{suffix}")[0].read_bytes()
    assert written.startswith({".svg": b"<?xml", ".pdf": b"%PDF"}[suffix])
    if suffix == ".svg":
        text = written.decode("utf-8")
        assert "10 µm" in text and "strength 8" in text and "0 … 700" in text and text.count("<image") == 3


def test_the_python_call_draws_the_same_figure(discs: dict[str, np.ndarray], tmp_path: Path) -> None:
    path = napari_cellenhance.comparison_figure(
        discs["noisy"], {"mine": discs["enhanced"], "yours": discs["clean"]}, tmp_path / "f.svg", difference=None,
        limits={"mine": (0, 2)},
    )  # fmt: skip
    text = path.read_text(encoding="utf-8")
    assert text.count("<image") == 3 and "0 … 2" in text and "20 px" in text and "difference" not in text
    with pytest.raises(TargetExistsError):
        napari_cellenhance.comparison_figure(discs["noisy"], discs["clean"], path)
    with pytest.raises(ParameterError, match=r"\.png, \.pdf or \.svg"):
        napari_cellenhance.comparison_figure(discs["noisy"], discs["clean"], tmp_path / "f.jpg")
    with pytest.raises(ParameterError, match="stack of 2 planes"):
        napari_cellenhance.comparison_figure(*[np.zeros((2, 9, 9))] * 2, tmp_path / "s.png", axes="ZYX")
    assert not (tmp_path / "s.png").exists() and not (tmp_path / "f.jpg.json").exists()


def test_a_window_of_the_plane_is_drawn(discs: dict[str, np.ndarray], tmp_path: Path) -> None:
    asked = request_of(discs, window=(slice(0, 48), slice(64, 128)), difference=None)
    _, beside = draw(asked, tmp_path / "part.png")
    assert json.loads(beside.read_text(encoding="utf-8"))["window"] == [[0, 48], [64, 128]]


def test_bars_are_round_and_fit() -> None:
    assert [bar_length(width) for width in (4.0, 8.0, 20.1, 1000.0)] == [1.0, 2.0, 5.0, 200.0]
