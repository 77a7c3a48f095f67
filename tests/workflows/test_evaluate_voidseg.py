"""VoidSeg's evaluation: all cells are trained and scored, none twice, and what is written says so."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_cellenhance.core.device import DeviceChoice
from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.io.panel_figures import Picture
from napari_cellenhance.workflows import _evaluate_voidseg_picture, evaluate_voidseg
from napari_cellenhance.workflows._evaluate_voidseg_tables import Cell, markdown, mean_se, rows_of
from napari_cellenhance.workflows._evaluate_voidseg_train import (
    METHODS,
    Images,
    _between_percentiles,
    _chosen,
    identity_of,
    n_validation,
    open_level,
    read_images,
    shown_index,
)
from napari_cellenhance.workflows.evaluate_voidseg import EvaluateVoidSegRequest, run, to_markdown
from napari_cellenhance.workflows.progress import Progress

CPU = DeviceChoice(device="cpu", precision="float32", note="")


def _picture(seed: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Bright discs, two of them touching, and their labels."""
    yy, xx = np.mgrid[:side, :side]
    labels = np.zeros((side, side), np.uint16)
    for k, (y, x) in enumerate(((16, 14), (16, 30), (46, 20), (44, 48)), start=1):
        labels[(yy - y - seed % 3) ** 2 + (xx - x) ** 2 <= 64] = k
    return (40 + 140 * (labels > 0)).astype(np.uint8), labels


@pytest.fixture
def request_(tmp_path: Path) -> EvaluateVoidSegRequest:
    """Three images to learn from, twelve patches, and two to test on."""
    rows = []
    with tifffile.TiffWriter(tmp_path / "i.tif") as images, tifffile.TiffWriter(tmp_path / "l.tif") as labels:
        for page in range(5):
            image, truth = _picture(page, 64)
            images.write(image)
            labels.write(truth)
            split = "train" if page < 3 else "test"
            rows.append({"images": "i.tif", "labels": "l.tif", "page": page, "shape": [64, 64], "split": split})
    (tmp_path / "index.json").write_text(json.dumps(rows), encoding="utf-8")
    sources = [{"name": name, "index": "index.json", "where": {"split": name}} for name in ("train", "test")]
    (tmp_path / "data.json").write_text(json.dumps({"sources": sources}), encoding="utf-8")
    return EvaluateVoidSegRequest(
        data=tmp_path / "data.json", out=tmp_path / "out", patch_px=32, crop_px=32, sigmas=(20.0,), n_labelled=(2, 4),
        seeds=(0,), methods=("baseline", "sequential"), n_steps=2, denoiser_steps=2, depth=1, width=4, batch_size=2,
        validate_every=1, device="cpu", precision="float32",
    )  # fmt: skip


def test_noise_is_added_without_clipping_and_is_the_same_each_time(request_: EvaluateVoidSegRequest) -> None:
    images = read_images(request_)
    assert len(images.train) == 3 and len(images.test) == 2 and len(images.patches) == 12
    level = open_level(images, 20.0, 0)
    change = np.stack([a - b for a, (_, b, _) in zip(level.noisy[0], images.train, strict=True)])
    assert float(change.std()) == pytest.approx(20 / 255, rel=0.03) and abs(float(change.mean())) < 2e-3
    loud = open_level(images, 200.0, 0)
    assert loud.noisy[1][0].min() < 0 and loud.noisy[1][0].max() > 1
    assert (open_level(images, 20.0, 0).noisy[1][0] == level.noisy[1][0]).all()
    assert not (open_level(images, 20.0, 1).noisy[1][0] == level.noisy[1][0]).all()
    assert not (level.noisy[1][0] - images.test[0][1] == level.noisy[1][1] - images.test[1][1]).any()


def test_labelled_patches_are_nested_and_never_validated_on(request_: EvaluateVoidSegRequest) -> None:
    """T-G5: for every number of labels, and for the validation as well."""
    images = read_images(request_)
    planes = [image for _, image, _ in images.train]
    seen = []
    for n in (2, 4, 8):
        train, validation = _chosen(images, planes, Cell(sigma=1, n_labelled=n, method="baseline", seed=3))
        names = {one.name for one in train}, {one.name for one in validation}
        assert len(names[0]) == n and len(names[1]) == n_validation(n) == 4 and not names[0] & names[1]
        seen.append(names)
    assert seen[0][0] < seen[1][0] < seen[2][0] and seen[0][1] == seen[2][1]


def test_stardist_sees_each_image_between_its_own_percentiles() -> None:
    plane = np.linspace(-3, 7, 1001, dtype=np.float32)[None]
    (seen,) = _between_percentiles([plane])
    assert np.percentile(seen, [1, 99.8]) == pytest.approx([0, 1], abs=1e-6) and seen.max() > 1


def test_every_cell_is_trained_once(request_: EvaluateVoidSegRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Progress] = []
    result = run(request_, on_progress=told.append)
    assert result.is_complete and result.n_found == 0
    assert [(c.n_labelled, c.method) for c in result.cells] == [
        (2, "baseline"), (2, "sequential"), (4, "baseline"), (4, "sequential"),
    ]  # fmt: skip
    for cell in result.cells:
        assert 0 <= cell.result["average_precision"] <= 1 and 0 <= cell.result["seg"] <= 1
        assert 0.1 <= cell.result["threshold"] <= 1
    (known,) = result.denoisers
    assert math.isfinite(known["psnr_noisy"]) and (Path(request_.out) / "denoisers" / known["file"]).is_file()
    assert told[-1].n_done == told[-1].n_total == 4

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("nothing is trained again")

    monkeypatch.setattr(evaluate_voidseg, "train_and_score", refuse)
    monkeypatch.setattr(evaluate_voidseg, "restore", refuse)
    again = run(request_)
    assert again.n_found == 4 and again.rows == result.rows
    with pytest.raises(AssertionError):
        run(replace(request_, n_steps=3))


def test_what_is_written_says_what_was_found(request_: EvaluateVoidSegRequest) -> None:
    request = replace(request_, methods=("finetune", "stardist-sequential"), n_labelled=(2,))
    result = run(request)
    out = Path(request.out)
    record = json.loads((out / "scores.json").read_text(encoding="utf-8"))
    assert record["is_complete"] and record["request"]["sigmas"] == [20.0] and len(record["rows"]) == 2
    assert (out / "scores.md").read_text(encoding="utf-8") == to_markdown(result)
    with open(out / "cells.csv", newline="", encoding="utf-8") as stream:
        assert [row["method"] for row in csv.DictReader(stream)] == ["finetune", "stardist-sequential"]
    assert "| Finetune |" in to_markdown(result) and "StarDist-Sequential" in to_markdown(result)


def test_what_each_method_finds_is_drawn(request_: EvaluateVoidSegRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: dict[str, list[Picture]] = {}
    monkeypatch.setattr(_evaluate_voidseg_picture, "pictures_png", lambda path, rows: drawn.update(rows))
    run(request_)
    assert list(drawn) == ["σ 20, 2 patches", "σ 20, 4 patches"]
    images = read_images(request_)
    index = shown_index(images)
    for row in drawn.values():
        assert [one.title for one in row] == ["noisy", "denoised", "U-Net", "Sequential", "truth"]
        noisy, restored = row[0].plane, row[1].plane
        assert noisy is not None and restored is not None and row[0].limits == row[1].limits
        np.testing.assert_array_equal(noisy, open_level(images, 20.0, 0).noisy[1][index])
        assert restored.shape == noisy.shape and np.abs(restored - noisy).max() > 0
        truth = row[-1].plane
        assert truth is not None and truth.shape == (*noisy.shape, 3) and not truth[images.test[index][2] == 0].any()
    drawn.clear()
    run(replace(request_, methods=("sequential", "stardist"), n_labelled=(2,), normalization="image"))
    # What the network looks at is on another scale then.
    assert [one.title for one in drawn["σ 20, 2 patches"]] == ["noisy", "Sequential", "StarDist", "truth"]


def test_the_image_with_the_most_objects_is_drawn() -> None:
    grey = np.zeros((8, 8), np.float32)
    test = [("a", grey, np.eye(8, dtype=np.int32)), ("b", grey, np.arange(64, dtype=np.int32).reshape(8, 8))]
    assert shown_index(Images([], [*test, test[0]], [], "")) == 1


def test_the_picture_is_a_file_and_none_without_an_example(request_: EvaluateVoidSegRequest) -> None:
    run(replace(request_, methods=("baseline",), n_labelled=(2,)))
    assert (Path(request_.out) / "objects.png").read_bytes().startswith(b"\x89PNG")
    cell = Cell(sigma=20.0, n_labelled=2, method="baseline", seed=0)
    assert _evaluate_voidseg_picture.write_picture(request_, read_images(request_), [(cell, {})]) is None


def test_a_stop_keeps_what_is_done(request_: EvaluateVoidSegRequest) -> None:
    n_told = 0

    def on_progress(progress: Progress) -> None:
        nonlocal n_told
        n_told = progress.n_done

    stopped = run(request_, on_progress=on_progress, is_cancelled=lambda: n_told >= 1)
    assert not stopped.is_complete and len(stopped.cells) == 1
    whole = run(request_)
    assert whole.is_complete and whole.n_found == 1


def test_only_what_decides_a_result_is_its_identity(request_: EvaluateVoidSegRequest) -> None:
    images = read_images(request_)
    cell = Cell(sigma=20.0, n_labelled=2, method="baseline", seed=0)
    plain = identity_of(request_, images, cell, CPU)
    assert identity_of(replace(request_, denoiser_steps=9, seeds=(4,)), images, cell, CPU) == plain
    tuned = replace(cell, method="finetune")
    other = replace(request_, denoiser_steps=9)
    assert identity_of(other, images, tuned, CPU) != identity_of(request_, images, tuned, CPU)


def test_rows_are_means_and_standard_errors() -> None:
    def cell(seed: int, ap: float, method: str = "baseline") -> Cell:
        return Cell(sigma=40, n_labelled=8, method=method, seed=seed, result={"average_precision": ap, "seg": 0.5})

    rows = rows_of([cell(0, 0.2), cell(1, 0.4), cell(0, 0.5, "sequential")])
    assert rows[0]["n"] == 2 and rows[0]["average_precision"] == pytest.approx(0.3)
    assert rows[0]["average_precision_se"] == pytest.approx(0.1)
    assert math.isnan(rows[1]["seg_se"]) and all(math.isnan(value) for value in mean_se([]))
    text = markdown([cell(0, 0.2), cell(1, 0.4), cell(0, 0.5, "sequential")])
    assert "| U-Net | 0.300 ± 0.100 / **0.500 ± 0.000** |" in text
    assert "| Sequential | **0.500** / **0.500** |" in text


def test_requests_that_cannot_be_met(request_: EvaluateVoidSegRequest) -> None:
    assert set(METHODS) == set(EvaluateVoidSegRequest().methods)
    for wrong, match in (
        ({"methods": ("magic",)}, "no method called magic"), ({"seeds": ()}, "seeds are"),
        ({"normalization": "none"}, "normalization is"),
        ({"n_labelled": (0,)}, "labelled patches"), ({"crop_px": 64}, "crops that fit"), ({"n_steps": 0}, "updates"),
    ):  # fmt: skip
        with pytest.raises(ParameterError, match=match):
            replace(request_, **wrong)  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="only 12"):
        run(replace(request_, n_labelled=(2, 11)))
    with pytest.raises(ImageError, match="0 in the source 'unseen'"):
        run(replace(request_, test_source="unseen"))
    with pytest.raises(ParameterError, match="no folder"):
        run(replace(request_, out=""))
