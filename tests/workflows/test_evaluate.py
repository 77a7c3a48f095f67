"""Scores on labelled images: the right filter wins, and nothing is tuned on what is scored."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_cellenhance.core.errors import ImageError, ModelNotFoundError, ParameterError
from napari_cellenhance.workflows import evaluate
from napari_cellenhance.workflows._evaluate_filters import FilterJob
from napari_cellenhance.workflows.evaluate import AS_ACQUIRED, NOISE, EvaluateRequest, Evaluation, run
from napari_cellenhance.workflows.progress import Progress

GAUSS = (("gaussian", 2.0), ("gaussian", 20.0))


def _write(folder: Path, name: str, n: int, seed: int, height: float = 60.0) -> Path:
    """Noisy discs as an index of multi-page files; returns the JSON list."""
    rng = np.random.default_rng(seed)
    rows = []
    yy, xx = np.mgrid[:96, :96]
    with tifffile.TiffWriter(folder / f"{name}i.tif") as images, tifffile.TiffWriter(folder / f"{name}l.tif") as labels:
        for page in range(n):
            lab = np.zeros((96, 96), np.uint16)
            for k, (y, x) in enumerate(((20, 20), (20, 70), (70, 20), (70, 70)), start=1):
                lab[(yy - y - page) ** 2 + (xx - x) ** 2 <= 64] = k
            noisy = 60 + height * (lab > 0) + rng.normal(0, 25, lab.shape)
            images.write(np.clip(noisy, 0, 255).astype(np.uint8))
            labels.write(lab)
            rows.append({"images": f"{name}i.tif", "labels": f"{name}l.tif", "page": page, "shape": [96, 96]})
    (folder / f"{name}.index.json").write_text(json.dumps(rows), encoding="utf-8")
    spec = folder / f"{name}.json"
    source = {"name": "discs", "index": f"{name}.index.json"}
    spec.write_text(json.dumps({"sources": [source]}), encoding="utf-8")
    return spec


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return _write(tmp_path, "test", 3, 0)


@pytest.fixture
def tune(tmp_path: Path) -> Path:
    return _write(tmp_path, "train", 2, 1)


def test_smoothing_beats_raw_on_noise_and_blur_beyond_recognition_does_not(data: Path, tune: Path) -> None:
    result = run(EvaluateRequest(data=(data,), tune=(tune,), filters=GAUSS, noise=()))
    raw, good, bad = result.rows
    assert [row.label for row in result.rows] == ["raw", "gaussian 2", "gaussian 20"]
    assert good.otsu_iou > raw.otsu_iou + 0.1
    assert good.average_precision > raw.average_precision + 0.3
    assert good.seg > raw.seg
    assert good.auroc > raw.auroc
    assert good.blob_f1 == pytest.approx(1.0)
    assert good.blob_f1_scales > 0.9
    assert bad.otsu_iou < good.otsu_iou and bad.average_precision < good.average_precision
    assert {row.n_images for row in result.rows} == {3}
    assert raw.fold == 1 and raw.gain == 0 and good.fold > 1
    assert result.is_complete and not result.learned
    assert len(result.images) == 9


def test_settings_are_chosen_on_the_other_set_only(data: Path, tune: Path, tmp_path: Path) -> None:
    first = run(EvaluateRequest(data=(data,), tune=(tune,), filters=GAUSS, noise=()))
    other = _write(tmp_path, "other", 3, 7, height=150.0)
    second = run(EvaluateRequest(data=(other,), tune=(tune,), filters=GAUSS, noise=()))
    for a, b in zip(first.rows, second.rows, strict=True):
        assert (a.threshold, a.threshold_scales, a.split_depth, a.min_size) == (
            b.threshold, b.threshold_scales, b.split_depth, b.min_size,
        )  # fmt: skip
        assert a.tuned_on == b.tuned_on == "2 other images"
    assert first.rows[0].blob_f1 != second.rows[0].blob_f1 or first.rows[0].auroc != second.rows[0].auroc
    # Tuned on such images instead, another threshold comes out: the choice does depend on the tuning set.
    third = run(EvaluateRequest(data=(data,), tune=(other,), filters=GAUSS, noise=()))
    assert [r.threshold for r in third.rows] != [r.threshold for r in first.rows]


def test_without_a_tuning_set_each_image_is_scored_with_what_suits_the_others(data: Path) -> None:
    result = run(EvaluateRequest(data=(data,), filters=(), noise=()))
    assert result.rows[0].tuned_on == "the other images of the set"
    assert len(result.images) == 3
    single = run(EvaluateRequest(data=(data,), filters=(), noise=(), max_images=1))
    assert single.rows[0].tuned_on == "the same image"


def test_noise_is_seeded_and_makes_raw_worse(data: Path, tune: Path) -> None:
    request = EvaluateRequest(data=(data,), tune=(tune,), filters=(), noise=("high noise",), max_images=2)
    first, second = run(request), run(request)
    assert [row.quality for row in first.rows] == [AS_ACQUIRED, "high noise"]
    assert [row.auroc for row in first.rows] == [row.auroc for row in second.rows]
    assert first.rows[1].auroc < first.rows[0].auroc - 0.05
    assert math.isnan(first.rows[1].contrast_ratio), "noise below 0 has no contrast ratio"
    image = evaluate.read_images(request)[0][0]
    again = evaluate.with_noise(image, "high noise", 0).image
    assert not np.array_equal(again, evaluate.with_noise(image, "high noise", 1).image)
    assert evaluate.with_noise(image, AS_ACQUIRED, 0) is image


def test_levels_of_noise_rise() -> None:
    photons, sigmas = zip(*NOISE.values(), strict=True)
    assert list(photons) == sorted(photons, reverse=True)
    assert list(sigmas) == sorted(sigmas)


def test_a_filter_can_follow_the_size_of_the_objects(data: Path) -> None:
    result = run(EvaluateRequest(data=(data,), filters=(("dog", None),), noise=(), max_images=1))
    assert result.rows[1].label == "dog size"
    assert result.rows[1].strength == pytest.approx(0.3 * 2 * math.sqrt(197 / math.pi), rel=0.02)
    with pytest.raises(ParameterError, match="size of the objects"):
        FilterJob(filter_id="median", strength=None)


def test_files_appear_together_and_hold_every_score(data: Path, tune: Path, tmp_path: Path) -> None:
    request = EvaluateRequest(data=(data,), tune=(tune,), filters=(("gaussian", 2.0),), noise=(), max_images=2)
    result = run(request)
    out = tmp_path / "new" / "scores"
    written = evaluate.save(result, request, out)
    assert set(written) >= {out / "scores.json", out / "scores.csv", out / "images.csv", out / "scores.md"}
    record = json.loads((out / "scores.json").read_text(encoding="utf-8"))
    assert [row["label"] for row in record["rows"]] == ["raw", "gaussian 2"]
    assert record["request"]["seed"] == 0 and record["is_complete"]
    with (out / "images.csv").open(encoding="utf-8", newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert len(lines) == 4
    assert float(lines[0]["auroc"]) == pytest.approx(result.images[0].auroc)
    text = (out / "scores.md").read_text(encoding="utf-8")
    assert "Contrast ratio" in text and "gaussian 2" in text and "AP at IoU 0.5" in text
    assert not list(out.glob(".*"))


def test_a_model_is_swept_over_its_whole_slider_and_drawn(data: Path, tmp_path: Path) -> None:
    request = EvaluateRequest(
        data=(data,), filters=(("nunet", 5.0), ("nunet", 10.0)), noise=(), max_images=2, n_strength_images=1,
        device="cpu", precision="float32",
    )  # fmt: skip
    result = run(request)
    assert result.learned == ("nunet",)
    (curve,) = result.strengths["nunet"]
    assert curve.strengths[0] == 0 and curve.strengths[-1] == 10 and len(curve.strengths) == 21
    assert len(curve.contrast) == 21
    assert list(result.histograms["discs"]) == ["raw", "nunet 5", "nunet 10"]
    assert result.histograms["discs"]["raw"].n_pixels == 2 * 96 * 96
    written = evaluate.save(result, request, tmp_path / "out")
    pictures = {path.name for path in written if path.suffix == ".png"}
    assert pictures == {"grey-values.png", "strengths.png", "detection.png"}
    record = json.loads((tmp_path / "out" / "scores.json").read_text(encoding="utf-8"))
    assert record["strengths"]["nunet"]["n_images"] == 1
    assert {f["label"] for f in record["verdict"]} == {"nunet 5", "nunet 10"}
    assert "Strength" in evaluate.to_markdown(result)


def test_a_stop_keeps_the_finished_rows(data: Path) -> None:
    seen: list[Progress] = []
    result = run(
        EvaluateRequest(data=(data,), filters=(("gaussian", 2.0),), noise=(), max_images=2),
        on_progress=seen.append,
        is_cancelled=lambda: len(seen) >= 5,
    )
    assert not result.is_complete
    assert [row.label for row in result.rows] in ([], ["raw"])
    assert seen[-1].n_done <= seen[-1].n_total


def test_a_quick_look_takes_few_images_and_one_level_of_noise() -> None:
    quick = evaluate.as_quick(EvaluateRequest(max_images=0))
    assert 0 < quick.max_images <= 6 and quick.max_megapixels > 0
    assert quick.noise == ("medium noise",)
    assert evaluate.as_quick(EvaluateRequest(max_images=2)).max_images == 2


def test_unknown_words_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="no filter"):
        run(EvaluateRequest(data=(tmp_path / "missing.json",), filters=(("nothing", 1.0),)))
    with pytest.raises(ParameterError, match="no noise called"):
        EvaluateRequest(noise=("thunder",))
    with pytest.raises(ImageError, match="nothing to score"):
        run(EvaluateRequest(filters=()))


def test_an_empty_evaluation_has_no_verdict() -> None:
    assert evaluate.worse_than_raw(Evaluation()) == []
