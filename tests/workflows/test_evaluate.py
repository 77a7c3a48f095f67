"""Scores on labelled images: a good filter beats raw on poor images, a bad one does not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_cellenhance.core.errors import ImageError
from napari_cellenhance.workflows.evaluate import EvaluateRequest, read_test_images, run, to_markdown, to_rows


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    rows = []
    yy, xx = np.mgrid[:96, :96]
    with tifffile.TiffWriter(tmp_path / "i.tif") as images, tifffile.TiffWriter(tmp_path / "l.tif") as labels:
        for page in range(2):
            lab = np.zeros((96, 96), np.uint16)
            for k, (y, x) in enumerate(((20, 20), (20, 70), (70, 20), (70, 70)), start=1):
                lab[(yy - y - page) ** 2 + (xx - x) ** 2 <= 64] = k
            noisy = 60 + 60.0 * (lab > 0) + rng.normal(0, 25, lab.shape)
            images.write(np.clip(noisy, 0, 255).astype(np.uint8))
            labels.write(lab)
            rows.append({"images": "i.tif", "labels": "l.tif", "page": page, "shape": [96, 96]})
    (tmp_path / "index.json").write_text(json.dumps(rows), encoding="utf-8")
    spec = tmp_path / "data.json"
    spec.write_text(json.dumps({"sources": [{"name": "discs", "index": "index.json"}]}), encoding="utf-8")
    return spec


def test_smoothing_beats_raw_on_noise_and_blur_beyond_recognition_does_not(data: Path) -> None:
    rows = run(EvaluateRequest(data=data, filters=(("gaussian", 2.0), ("gaussian", 20.0)), is_degraded=False))
    raw, good, bad = rows
    assert (raw.filter_id, good.strength, bad.strength) == ("raw", 2.0, 20.0)
    assert good.otsu_iou > raw.otsu_iou + 0.1
    assert good.auroc > raw.auroc
    assert good.blob_f1 == pytest.approx(1.0)
    assert bad.otsu_iou < good.otsu_iou
    assert {r.n_images for r in rows} == {2}


def test_degraded_versions_are_seeded_and_scored_apart(data: Path) -> None:
    request = EvaluateRequest(data=data, n_images=1)
    first, second = read_test_images(request), read_test_images(request)
    assert [t.quality for t in first] == ["as acquired", "degraded"]
    np.testing.assert_array_equal(first[1].image, second[1].image)
    assert not np.array_equal(first[0].image, first[1].image)
    assert [r.quality for r in run(request)] == ["as acquired", "degraded"]


def test_the_table_and_the_record_hold_every_row(data: Path) -> None:
    rows = run(EvaluateRequest(data=data, is_degraded=False))
    assert len(to_markdown(rows).splitlines()) == 2 + len(rows)
    assert json.loads(json.dumps(to_rows(rows)))[0]["filter_id"] == "raw"


def test_images_without_labels_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.random.default_rng(0).random((32, 32)))
    spec = tmp_path / "d.json"
    spec.write_text(json.dumps({"sources": [{"name": "n", "npz": "a.npz", "key": "x"}]}), encoding="utf-8")
    with pytest.raises(ImageError, match="scores need masks"):
        run(EvaluateRequest(data=spec))
