"""Settings are chosen by the mean over images; an image that is left out has no say."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from napari_cellenhance.core.object_scores import BLOB_THRESHOLDS, SPLITS, Split
from napari_cellenhance.io.labelled import LabelledImage
from napari_cellenhance.workflows._evaluate_filters import FilterJob, for_contrast
from napari_cellenhance.workflows._evaluate_scores import Settings, Sweep, choose_settings, score, summarise

N, M = len(BLOB_THRESHOLDS), len(SPLITS)
SETTINGS = Settings(threshold_one_scale=0.1, threshold_scale_range=0.1, split=Split(0.1, 0.05))


def _peaked(at: int, height: float = 1.0) -> Sweep:
    one, precision = np.zeros(N), np.zeros(M)
    one[at] = height
    precision[at % M] = height
    return Sweep(one_scale=one, scale_range=one[::-1].copy(), precision=precision)


def test_the_settings_with_the_best_mean_are_taken() -> None:
    chosen = choose_settings([_peaked(2), _peaked(2), _peaked(5, 1.5)])
    assert chosen.threshold_one_scale == BLOB_THRESHOLDS[2]
    assert chosen.threshold_scale_range == BLOB_THRESHOLDS[N - 3]
    assert chosen.split == SPLITS[2]


def test_an_image_left_out_has_no_say() -> None:
    sweeps = [_peaked(2), _peaked(2), _peaked(5, 9.0)]
    assert choose_settings(sweeps).threshold_one_scale == BLOB_THRESHOLDS[5]
    without = choose_settings(sweeps, without=2)
    assert without.threshold_one_scale == BLOB_THRESHOLDS[2] and without.split == SPLITS[2]
    for at in range(N):
        assert choose_settings([*sweeps[:2], _peaked(at, 9.0)], without=2) == without
    assert choose_settings(sweeps[2:], without=0).threshold_one_scale == BLOB_THRESHOLDS[5], "it has only itself"


def _truth(*, is_mask: bool) -> LabelledImage:
    labels = np.zeros((40, 40), np.int32)
    labels[5:15, 5:15], labels[22:34, 22:34] = 1, 2
    image = np.where(labels > 0, np.float32(0.5), np.float32(0.1))
    return LabelledImage(
        source="s", name="i", image=image, labels=None if is_mask else labels, mask=labels > 0,
        points=None if is_mask else np.array([[9.5, 9.5], [27.5, 27.5]]), diameter_px=12.0,
    )  # fmt: skip


def test_contrast_is_taken_from_the_grey_values_as_stored() -> None:
    truth = _truth(is_mask=False)
    stretched = (truth.image > 0.3).astype(np.float32)
    raw = score(
        stretched, truth, "as acquired", FilterJob(filter_id="raw"), SETTINGS, with_contrast=True, with_labels=True
    )
    assert raw.contrast_ratio == pytest.approx(5.0)
    assert (raw.gain, raw.fold, raw.contrast_floored) == (0.0, 1.0, False)
    assert raw.average_precision == 1 and raw.seg_terms == (1.0, 1.0)
    other = score(
        stretched, truth, "as acquired", FilterJob(filter_id="dog", strength=2.0), SETTINGS,
        with_contrast=True, with_labels=False,
    )  # fmt: skip
    assert other.contrast_floored and other.contrast_ratio == pytest.approx(1000.0)
    assert other.fold == pytest.approx(200.0)
    assert math.isnan(other.average_precision) and other.seg_terms == ()
    logarithm = for_contrast(truth.image, stretched, "log-lut")
    assert logarithm[0, 0] == pytest.approx(np.log(1 + 25.5) / np.log(256))


def test_a_mask_alone_gives_no_score_of_objects() -> None:
    truth = _truth(is_mask=True)
    found = score(
        truth.image, truth, "as acquired", FilterJob(filter_id="raw"), SETTINGS, with_contrast=True, with_labels=True
    )
    assert found.otsu_iou == 1 and found.auroc == 1
    assert all(math.isnan(v) for v in (found.blob_f1, found.blob_f1_scales, found.average_precision, found.threshold))
    row = summarise([found, found], "x")
    assert math.isnan(row.seg) and row.contrast_sd == 0 and row.n_images == 2


def test_seg_is_the_mean_over_all_objects_not_over_images() -> None:
    truth = _truth(is_mask=False)
    job = FilterJob(filter_id="raw")
    full = score(truth.image, truth, "q", job, SETTINGS, with_contrast=False, with_labels=True)
    many = replace(full, seg_terms=(0.0,) * 6)
    assert summarise([full, many], "x").seg == pytest.approx(2 / 8)
