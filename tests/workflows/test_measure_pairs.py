"""Results against references: numbers, notes and refusals for arrays, and the table."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest

import napari_cellenhance
from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.workflows.measure import MeasuredImage
from napari_cellenhance.workflows.measure_pair_tables import describe, title_of, to_markdown, to_rows, write_csv
from napari_cellenhance.workflows.measure_pairs import (
    PairOptions,
    PairRequest,
    PairScore,
    measure_hits,
    measure_pair,
    measure_points,
)

RAMP = np.linspace(0, 1, 64 * 64).reshape(64, 64)
TRUTH = np.zeros((20, 40), np.uint16)
TRUTH[2:12, 2:12], TRUTH[2:12, 14:24], TRUTH[2:12, 26:36], TRUTH[14:18, 2:6] = 1, 2, 3, 4
FOUND = np.zeros((20, 40), np.int32)
FOUND[2:12, 2:12], FOUND[2:12, 18:28], FOUND[5:11, 29:39], FOUND[14:18, 30:34] = 1, 2, 3, 4


def score(result: Any, reference: Any, axes: str = "YX", **options: Any) -> PairScore:
    return measure_pair(
        PairRequest(
            result=MeasuredImage(name="result", image=result, axes=axes),
            reference=MeasuredImage(name="clean", image=reference, axes=axes),
            options=PairOptions(**options),
        )
    )


def row_of(done: PairScore, **options: Any) -> dict[str, Any]:
    (row,) = to_rows([done], PairOptions(**options))
    return row


# --- grey values ----------------------------------------------------------------------------


def test_the_worked_numbers_of_restoration() -> None:
    row = row_of(score(RAMP + 0.1, RAMP))
    assert row["psnr_db"] == pytest.approx(20.0, abs=1e-3)
    assert row["mae"] == pytest.approx(0.1) and row["ssim"] == pytest.approx(0.95297, abs=1e-5)
    assert row["affine_psnr_db"] == float("inf")
    assert (row["data_range"], row["n_planes"]) == (1.0, 1)


def test_the_range_can_be_stated() -> None:
    assert row_of(score(RAMP + 0.1, RAMP, data_range=10.0))["psnr_db"] == pytest.approx(40.0, abs=1e-3)


def test_a_stack_is_pooled_and_says_so() -> None:
    stack = da.from_array(np.stack([RAMP, RAMP]), chunks=(1, 64, 64))
    done = score(stack + np.array([0.0, 0.2])[:, None, None], stack, axes="ZYX")
    row = row_of(done)
    assert row["psnr_db"] == pytest.approx(10 * math.log10(1 / 0.02)) and row["mae"] == pytest.approx(0.1)
    assert row["n_planes"] == 2
    assert "plane by plane" in done.notes[-1]


def test_grey_values_of_another_scale_are_told() -> None:
    done = score((RAMP * 0.5).astype(np.float32), (RAMP * 65535).astype(np.uint16))
    assert done.notes[0] == "“result” holds float32 from 0 to 0.5, “clean” uint16 from 0 to 65535."
    assert "scales differ" in done.notes[1]
    assert "scales differ" in score(RAMP + 2, RAMP).notes[1]
    assert score((RAMP * 250).astype(np.float32), (RAMP * 255).astype(np.uint8)).notes == (), "another type is no harm"
    assert row_of(done)["affine_psnr_db"] > 90 > row_of(done)["psnr_db"]


def test_an_image_upside_down_is_told() -> None:
    assert "upside down" in " ".join(score(1 - RAMP, RAMP).notes)


def test_a_constant_reference_needs_a_range() -> None:
    with pytest.raises(ImageError, match=r"“clean” is constant .every pixel is 3.* state the data range"):
        score(RAMP, np.full_like(RAMP, 3.0))
    done = score(RAMP, np.full_like(RAMP, 3.0), data_range=1.0)
    assert math.isnan(row_of(done)["affine_psnr_db"]) and row_of(done)["mae"] == pytest.approx(2.5)
    assert "no affine PSNR" in done.notes[0]


def test_other_sizes_are_refused_with_both_named() -> None:
    with pytest.raises(ImageError, match="“result” has the size 5 × 64, its reference “clean” 64 × 64"):
        score(RAMP[:5], RAMP)
    with pytest.raises(ImageError, match="size 3 × 64 × 64, its reference “clean” 2 × 64 × 64"):
        score(np.stack([RAMP] * 3), np.stack([RAMP] * 2), axes="ZYX")


def test_small_images_and_bad_pixels_have_no_ssim() -> None:
    small = score(RAMP[:5] + 0.1, RAMP[:5])
    assert math.isnan(row_of(small)["ssim"]) and "smaller than the 7 × 7" in small.notes[-1]
    holed = RAMP + 0.1
    holed[0, 0] = np.nan
    done = score(holed, RAMP)
    assert "1 pixel that" in done.notes[0] and row_of(done)["mae"] == pytest.approx(0.1)


# --- labels ---------------------------------------------------------------------------------


def test_the_worked_numbers_of_objects() -> None:
    row = row_of(score(FOUND, TRUTH, kind="objects", min_iou=(0.5, 0.4)), kind="objects")
    assert row["ap_50"] == pytest.approx(0.142857, abs=1e-6) and row["seg"] == pytest.approx(0.357143, abs=1e-6)
    assert row["precision_50"] == row["recall_50"] == row["f1_50"] == 0.25
    assert row["ap_40"] == pytest.approx(1 / 3)
    assert (row["n_true"], row["n_found"]) == (4, 4)
    union = (TRUTH > 0) | (FOUND > 0)
    assert row["iou"] == pytest.approx(((TRUTH > 0) & (FOUND > 0)).sum() / union.sum())


def test_nothing_labelled_is_told() -> None:
    nothing = np.zeros_like(TRUTH)
    empty = score(nothing, nothing, kind="objects")
    assert row_of(empty, kind="objects")["ap_50"] == 1.0 and "AP is 1" in empty.notes[0]
    vain = score(FOUND, nothing, kind="objects")
    assert row_of(vain, kind="objects")["ap_50"] == 0.0 and "4 were found: AP is 0" in vain.notes[0]
    assert math.isnan(row_of(vain, kind="objects")["seg"])


def test_negative_numbers_are_refused_with_both_named() -> None:
    with pytest.raises(ImageError, match=r"“result” against “clean”: .*negative ids"):
        score(FOUND - 1, TRUTH, kind="objects")


def test_a_mask_instead_of_objects_is_told() -> None:
    done = score(FOUND, TRUTH > 0, kind="objects")
    assert "“clean” has a single number in several separate places" in done.notes[0]
    assert score(FOUND == 1, TRUTH == 1, kind="objects").notes == ()


@pytest.mark.parametrize("kind", ["objects", "classes"])
def test_values_that_are_no_labels_are_refused(kind: str) -> None:
    with pytest.raises(ImageError, match="“result” holds float64 values; expected labels"):
        score(RAMP[:20, :40], TRUTH, kind=kind)
    with pytest.raises(ImageError, match="colour image"):
        measure_pair(
            PairRequest(
                result=MeasuredImage(name="a", image=np.zeros((20, 40, 3), np.uint8), axes="YXS"),
                reference=MeasuredImage(name="b", image=TRUTH, axes="YX"),
                options=PairOptions(kind=kind),  # type: ignore[arg-type]
            )
        )


def test_the_worked_numbers_of_classes() -> None:
    truth, found = np.array([[0, 0, 1, 1], [0, 2, 2, 1]]), np.array([[0, 1, 1, 1], [0, 2, 0, 1]])
    row = row_of(score(found, truth, kind="classes"), kind="classes")
    assert [row[f"iou_{i}"] for i in range(3)] == [0.5, 0.75, 0.5]
    assert row["mean_iou"] == pytest.approx(0.58333, abs=1e-5)
    assert [row[f"dice_{i}"] for i in range(3)] == pytest.approx([0.66667, 0.85714, 0.66667], abs=1e-5)
    ignored = row_of(score(found, truth, kind="classes", ignore=2), kind="classes")
    assert ignored["iou_0"] == pytest.approx(2 / 3)
    unpainted = score(np.maximum(found, 1), truth, kind="classes")
    assert "“clean” has pixels with label 0, “result” has none" in unpainted.notes[0]
    assert score(np.maximum(found, 1), truth, kind="classes", ignore=0).notes == ()
    nothing = score(found, np.full_like(truth, 2), kind="classes", ignore=2)
    assert "nothing but the ignored label 2" in nothing.notes[0]
    with pytest.raises(ImageError, match=r"“result” against “clean”: .* compared as objects"):
        score(np.arange(800).reshape(20, 40), TRUTH, kind="classes")


# --- settings -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kind": "music"}, "kind is 'music'"),
        ({"data_range": 0.0}, "data range is 0"),
        ({"min_iou": ()}, "overlap is missing"),
        ({"min_iou": (0.5, 1.5)}, "overlap is 0.5, 1.5"),
        ({"match_within_px": -1.0}, "within -1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ParameterError, match=said):
        PairOptions(**options)


def test_points_are_no_images() -> None:
    with pytest.raises(ParameterError, match="measure_points"):
        score(TRUTH, TRUTH, kind="points")
    with pytest.raises(ImageError, match=r"“a” against “b”: .*coordinates"):
        measure_points("a", np.zeros((1, 3)), "b", np.zeros((1, 2)), PairOptions(kind="points"))


def test_cancelling_says_that_planes_are_missing() -> None:
    asked = iter([False, True])
    image = MeasuredImage(name="a", image=np.stack([RAMP] * 3), axes="ZYX")
    done = measure_pair(PairRequest(result=image, reference=image), is_cancelled=lambda: next(asked))
    assert not done.is_complete and done.tally.n_planes == 1


# --- tables ---------------------------------------------------------------------------------


def test_mean_sd_and_everything_together() -> None:
    options = PairOptions(kind="objects")
    one, two = score(FOUND, TRUTH, kind="objects"), score(np.zeros_like(TRUTH), np.zeros_like(TRUTH), kind="objects")
    rows = to_rows([one, two], options)
    assert [row["image"] for row in rows] == ["result", "result", "mean", "sd", "all together"]
    mean, sd, pooled = rows[2:]
    assert mean["ap_50"] == pytest.approx((1 / 7 + 1) / 2) and pooled["ap_50"] == pytest.approx(1 / 7)
    assert sd["ap_50"] == pytest.approx(np.std([1 / 7, 1], ddof=1))
    assert mean["seg"] == pytest.approx(0.357143, abs=1e-6) and math.isnan(sd["seg"])
    assert one.tally.n_planes == 1, "pooling must not change the parts"
    text = to_markdown(rows)
    assert "| image | true | found | AP 0.5 | P 0.5 | R 0.5 | F1 0.5 | SEG | IoU | Dice |" in text
    assert "| mean | 2.0 | 2.0 | 0.571 |" in text and "| all together | 4 | 4 | 0.143 |" in text


def test_images_have_no_pooled_row_and_infinity_is_written() -> None:
    rows = to_rows([score(RAMP, RAMP), score(RAMP + 0.1, RAMP)], PairOptions())
    assert [row["image"] for row in rows] == ["result", "result", "mean", "sd"]
    lines = to_markdown(rows).splitlines()
    assert lines[2].startswith("| result | ∞ | ∞ | 1.0000 | 0 |") and lines[2].endswith("| 1 |")
    assert lines[4].startswith("| mean | ∞ | ∞ | 0.9765 | 0.05 |") and lines[4].endswith("| – |")
    assert lines[5].startswith("| sd | – | – |")


def test_classes_of_all_images_have_columns() -> None:
    a, b = (
        score(np.eye(8, dtype=int), np.eye(8, dtype=int), kind="classes"),
        score(np.full((8, 8), 3), np.full((8, 8), 3), kind="classes"),
    )
    rows = to_rows([a, b], PairOptions(kind="classes"))
    assert all(list(row) == list(rows[0]) for row in rows)
    assert math.isnan(rows[0]["iou_3"]) and rows[1]["iou_3"] == 1.0
    assert title_of("iou_3") == "IoU 3"


def test_the_csv_has_every_row_and_its_record(tmp_path: Path) -> None:
    options = PairOptions(kind="objects")
    rows = to_rows([score(FOUND, TRUTH, kind="objects")], options)
    table, record = write_csv(rows, describe(options), tmp_path / "t.csv")
    with table.open(encoding="utf-8", newline="") as stream:
        (line,) = csv.DictReader(stream)
    assert float(line["ap_50"]) == pytest.approx(1 / 7) and line["reference"] == "clean"
    told = json.loads(record.read_text(encoding="utf-8"))
    assert told["measured"] == "objects against a reference" and told["min_iou"] == [0.5]
    assert "data_range" not in told


# --- the public call ------------------------------------------------------------------------


def test_the_public_call_gives_the_same_numbers() -> None:
    row = napari_cellenhance.measure_pair(FOUND, TRUTH.tolist(), kind="objects", min_iou=0.5)
    assert row["ap_50"] == pytest.approx(1 / 7) and "image" not in row
    with pytest.warns(UserWarning, match="plane by plane"):
        stack = napari_cellenhance.measure_pair(
            np.stack([FOUND] * 2), np.stack([TRUTH] * 2), kind="objects", axes="ZYX"
        )
    assert stack["ap_50"] == row["ap_50"] and stack["n_planes"] == 2
    points = napari_cellenhance.measure_pair([(0, 0), (0, 3)], [(0, 2), (0, -2)], kind="points", match_within_px=2.5)
    assert points["f1"] == 1.0
    with pytest.raises(ImageError, match="expected the same"):
        napari_cellenhance.measure_pair(RAMP[:5], RAMP)


# --- labels against points, and boxes -----------------------------------------------------------


def test_points_lie_in_labels_of_their_plane() -> None:
    labels = np.zeros((2, 10, 10), np.uint16)
    labels[0, 2:5, 2:5], labels[1, 6:9, 6:9] = 1, 2
    stack = MeasuredImage(name="found", image=labels, axes="TYX")
    points = np.array([(0, 3, 3), (0, 7, 7), (1, 7, 7), (5, 1, 1)], float)
    done = measure_hits(stack, "true", points, PairOptions(kind="hits"))
    assert row_of(done, kind="hits")["f1"] == pytest.approx(2 / 3) and done.tally.n_planes == 2
    assert "1 points of “true” lie outside" in done.notes[0] and "plane by plane" in done.notes[1]
    with pytest.raises(ImageError, match="3 dimensions"):
        measure_hits(stack, "true", points[:, 1:], PairOptions(kind="hits"))
    with pytest.raises(ParameterError, match="measure_hits"):
        measure_pair(PairRequest(result=stack, reference=stack, options=PairOptions(kind="hits")))


def test_boxes_of_the_worked_example_and_of_planes() -> None:
    row = row_of(score(FOUND, TRUTH, kind="boxes"), kind="boxes")
    assert (row["n_true"], row["n_found"]) == (4, 4) and row["f1"] == 0.25 and row["iou"] == pytest.approx(222 / 370)
    stack = score(np.stack([FOUND, TRUTH]), np.stack([TRUTH, TRUTH]), "TYX", kind="boxes")
    assert stack.tally.n_planes == 2 and "boxes are matched within each plane" in stack.notes[0]
    assert row_of(stack, kind="boxes")["precision"] == pytest.approx(5 / 8)


def test_hits_from_python() -> None:
    row = napari_cellenhance.measure_pair(FOUND, [(5, 5), (5, 20), (0, 0)], kind="hits")
    assert (row["n_true"], row["n_found"]) == (3, 4) and row["recall"] == pytest.approx(2 / 3)
