"""Raw against enhanced: the numbers of the table, the mask, planes, and what may go wrong."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest

from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.workflows.measure import (
    CompareRequest,
    MeasuredImage,
    compare,
    to_markdown,
    to_rows,
    write_csv,
)

BEFORE = np.array([[10, 10, 10, 50], [10, 10, 50, 50]], np.uint8)
AFTER = np.array([[1, 1, 0, 200], [0, 0, 210, 220]], np.uint8)
MASK = (BEFORE == 50).astype(np.int32)


def image(name: str, pixels: Any, axes: str = "YX", **more: Any) -> MeasuredImage:
    return MeasuredImage(name=name, image=pixels, axes=axes, **more)


def request(**changes: Any) -> CompareRequest:
    settings: dict[str, Any] = {
        "raw": image("raw", BEFORE),
        "enhanced": (image("after", AFTER),),
        "mask": image("mask", MASK),
    }
    return CompareRequest(**{**settings, **changes})


def test_the_worked_example() -> None:
    raw, after = compare(request()).rows
    assert (raw.layer, raw.contrast_ratio, raw.hit_floor) == ("raw", 5.0, 0)
    assert np.isnan(raw.gain) and np.isnan(raw.fold)
    assert after.contrast_ratio == pytest.approx(525.0)
    assert (after.gain, after.fold) == (pytest.approx(520.0), pytest.approx(105.0))
    assert raw.michelson == pytest.approx(40 / 60)
    assert after.auroc == after.otsu_iou == raw.auroc == raw.otsu_iou == 1.0


def test_every_id_of_a_labels_layer_is_object() -> None:
    labels = np.array([[0, 0, 0, 7], [0, 0, 300, 2]])
    # As text: a raw image has no gain, and NaN is not equal to NaN.
    assert repr(compare(request(mask=image("labels", labels))).rows) == repr(compare(request()).rows)


def test_a_ground_of_zero_is_floored_and_said() -> None:
    result = compare(request(enhanced=(image("black", np.where(MASK, 1.0, 0.0)),)))
    assert result.rows[1].hit_floor == 1
    assert result.rows[1].contrast_ratio == pytest.approx(1000.0)
    assert any("at least" in note and "black" in note for note in result.notes)
    assert "≥ 1000.00" in to_markdown(result)


def test_without_a_mask_it_is_made_and_never_silently() -> None:
    result = compare(request(mask=None))
    assert result.is_mask_automatic
    assert any("No mask was chosen" in note and "raw image" in note for note in result.notes)
    assert {row["mask"] for row in to_rows(result)} == {"automatic (Otsu)"}
    assert result.record["mask_source"].startswith("automatic")
    raw, after = result.rows
    assert raw.contrast_ratio == 5.0
    assert np.isnan(raw.otsu_iou), "1 by construction is no finding"
    assert after.otsu_iou == 1.0
    assert not compare(request()).is_mask_automatic


def test_planes_have_rows_and_a_mean_and_sd() -> None:
    raw = np.stack([BEFORE, BEFORE + 10, BEFORE + 30])
    result = compare(request(raw=image("raw", raw, "TYX"), enhanced=(image("after", np.stack([AFTER] * 3), "TYX"),)))
    assert [(row.layer, row.plane) for row in result.rows[:3]] == [("raw", "T 0"), ("after", "T 0"), ("raw", "T 1")]
    ratios = [5.0, 3.0, 2.0]
    by_name = {(row.layer, row.plane): row for row in result.summary}
    assert by_name["raw", "mean"].contrast_ratio == pytest.approx(np.mean(ratios))
    assert by_name["raw", "sd"].contrast_ratio == pytest.approx(np.std(ratios, ddof=1))
    assert by_name["after", "mean"].fold == pytest.approx(np.mean([525 / ratio for ratio in ratios]))
    assert by_name["raw", "mean"].n_planes == 3
    assert any("single plane" in note for note in result.notes), "one mask for three planes is said"


def test_a_lazy_stack_is_read_plane_by_plane() -> None:
    read: list[int] = []

    def block(values: np.ndarray) -> np.ndarray:
        read.append(len(values))
        return values

    stack = np.stack([BEFORE] * 4)
    lazy = da.from_array(stack, chunks=(1, 2, 4)).map_blocks(block, dtype=stack.dtype, meta=np.zeros((0, 0, 0), "u1"))
    result = compare(request(raw=image("raw", lazy, "ZYX"), enhanced=(image("after", stack, "ZYX"),)))
    assert len(result.rows) == 8
    assert max(read) == 1


def test_one_plane_of_a_stack_alone() -> None:
    stack = np.stack([BEFORE, BEFORE + 30])
    only = compare(
        request(
            raw=image("raw", stack, "ZYX", at=(0, 0, 1)), enhanced=(image("after", AFTER, at=(0, 0, 1)),),
        )
    )  # fmt: skip
    assert len(only.rows) == 2
    assert only.rows[0].contrast_ratio == pytest.approx(2.0)
    with pytest.raises(ParameterError, match="Z 9"):
        compare(request(raw=image("raw", stack, "ZYX", at=(0, 0, 9))))


def test_dark_objects_are_inverted_within_their_range() -> None:
    dark = (200 - BEFORE.astype(int)).astype(np.uint8)  # objects 150, ground 190
    assert compare(request(raw=image("raw", dark))).rows[0].auroc == 0.0
    row = compare(request(raw=image("raw", dark, objects_are_dark=True))).rows[0]
    assert row.auroc == row.otsu_iou == 1.0
    assert row.contrast_ratio == pytest.approx(190 / 150)


def test_colours_are_taken_as_luminance() -> None:
    colour = np.repeat(BEFORE[..., None], 3, axis=-1)
    row = compare(request(raw=image("raw", colour, "YXS"))).rows[0]
    assert row.contrast_ratio == pytest.approx(5.0)


def test_pixels_that_are_no_numbers_are_left_out_of_all_images() -> None:
    """A hole in one image must not let the other be measured on other pixels."""
    holed = AFTER.astype(float)
    holed[0, 3] = np.nan
    before = BEFORE.astype(float)
    before[0, 3] = 5000.0
    result = compare(request(raw=image("raw", before), enhanced=(image("after", holed),)))
    assert result.rows[0].contrast_ratio == pytest.approx(5.0)
    assert any("1 pixel" in note for note in result.notes)


def test_negative_values_have_no_ratio_but_an_auroc_and_stretching_helps() -> None:
    negative = AFTER.astype(float) - 50
    result = compare(request(enhanced=(image("after", negative),)))
    row = result.rows[1]
    assert np.isnan(row.contrast_ratio) and np.isnan(row.fold) and np.isnan(row.michelson)
    assert row.auroc == 1.0
    assert any("below 0" in note and "after" in note for note in result.notes)
    stretched = compare(request(enhanced=(image("after", negative),), values="stretched")).rows[1]
    assert np.isfinite(stretched.contrast_ratio)


def test_stretching_leaves_enhanced_images_alone() -> None:
    enhanced = AFTER / 400.0
    row = compare(request(enhanced=(image("after", enhanced),), values="stretched")).rows[1]
    assert row.contrast_ratio == pytest.approx(525.0)


def test_planes_without_objects_are_left_out_and_counted() -> None:
    stack = np.stack([BEFORE, BEFORE])
    masks = np.stack([MASK, np.zeros_like(MASK)])
    result = compare(
        request(
            raw=image("raw", stack, "ZYX"), enhanced=(image("after", stack, "ZYX"),), mask=image("mask", masks, "ZYX")
        )
    )
    assert np.isnan(result.rows[2].auroc)
    assert {row.plane: row.auroc for row in result.summary if row.layer == "raw"}["mean"] == 1.0
    assert any("1 plane " in note for note in result.notes)


@pytest.mark.parametrize("mask", [np.zeros_like(MASK), np.ones_like(MASK)])
def test_a_mask_of_nothing_or_everything_is_refused(mask: np.ndarray) -> None:
    with pytest.raises(ImageError, match=r"mask.*objects and ground"):
        compare(request(mask=image("mask", mask)))


def test_a_flat_image_without_a_mask_is_refused() -> None:
    flat = np.full((4, 4), 7)
    with pytest.raises(ImageError, match="Otsu"):
        compare(CompareRequest(raw=image("raw", flat), enhanced=(image("after", flat),)))


def test_layers_of_different_size_are_refused_with_both_sizes() -> None:
    with pytest.raises(ImageError, match=r"“small” has 1 plane of 2 × 3 px, “raw” 1 plane of 2 × 4 px"):
        compare(request(enhanced=(image("small", AFTER[:, :3]),)))
    with pytest.raises(ImageError, match="3 planes"):
        compare(request(enhanced=(image("stack", np.stack([AFTER] * 3), "ZYX"),)))
    with pytest.raises(ImageError, match="“mask”"):
        compare(request(mask=image("mask", MASK[:1])))


def test_settings_are_checked() -> None:
    with pytest.raises(ParameterError, match="nothing to compare"):
        request(enhanced=())
    with pytest.raises(ParameterError, match="values"):
        request(values="other")


def test_nothing_is_written_to_the_images() -> None:
    for pixels in (BEFORE, AFTER, MASK):
        pixels.setflags(write=False)
    compare(request(values="stretched"))


def test_cancel_keeps_the_planes_that_are_done() -> None:
    stack = np.stack([BEFORE] * 5)
    asked = iter([False, False, True])
    result = compare(
        request(raw=image("raw", stack, "ZYX"), enhanced=(image("after", stack, "ZYX"),)),
        is_cancelled=lambda: next(asked),
    )
    assert not result.is_complete
    assert len(result.rows) == 4


def test_the_csv_has_every_row_and_a_record_of_the_layers(tmp_path: Path) -> None:
    stack = np.stack([BEFORE] * 2)
    result = compare(request(raw=image("raw", stack, "ZYX"), enhanced=(image("after", stack, "ZYX"),)))
    table, record = write_csv(result, tmp_path / "contrast.csv")
    with table.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["plane"] for row in rows] == ["Z 0", "Z 0", "Z 1", "Z 1", "mean", "sd", "mean", "sd"]
    assert float(rows[0]["contrast_ratio"]) == 5.0
    told = json.loads(record.read_text(encoding="utf-8"))
    assert told["raw"] == {
        "name": "raw", "shape": [2, 2, 4], "dtype": "uint8", "axes": "ZYX", "objects_are_dark": False,
        "plane_tcz": None,
    }  # fmt: skip
    assert told["enhanced"][0]["name"] == "after"
    assert told["mask"]["shape"] == [2, 4]
