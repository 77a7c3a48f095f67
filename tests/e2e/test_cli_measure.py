"""``cellenhance measure`` against references: the table, JSON, CSV, exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from napari_cellenhance.cli import app
from napari_cellenhance.io.images import write

RAMP = np.linspace(0, 1, 32 * 32, dtype=np.float32).reshape(32, 32)


def call(*words: Any) -> Any:
    return CliRunner().invoke(app, ["measure", *(str(word) for word in words)])


def refused(result: Any, code: int) -> str:
    """The one line of an error."""
    assert result.exit_code == code, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    return line


@pytest.fixture
def study(tmp_path: Path, cells: Any) -> Path:
    """Restored and clean images, labels found and true, points found and true."""
    for folder in ("restored", "clean", "found", "truth", "points"):
        (tmp_path / folder).mkdir()
    for name, shift in (("a", 0.1), ("b", 0.01)):
        write(tmp_path / "restored" / f"{name}.tif", RAMP + np.float32(shift), "YX")
        write(tmp_path / "clean" / f"{name}.tif", RAMP, "YX")
        write(
            tmp_path / "found" / f"{name}_labels.tif", np.where(cells.labels == 2, 0, cells.labels), "YX", dtype="keep"
        )
        write(tmp_path / "truth" / f"{name}_labels.tif", cells.labels, "YX", dtype="keep")
    lines = "\n".join(f"{y},{x}" for y, x in cells.centres)
    (tmp_path / "points" / "a_points.csv").write_text(f"axis-0,axis-1\n{lines}\n", encoding="utf-8")
    (tmp_path / "true.csv").write_text(f"y,x\n{lines}\n90,3\n", encoding="utf-8")
    return tmp_path


def test_restored_images_against_clean_ones(study: Path) -> None:
    table = study / "scores.csv"
    done = call(study / "restored", "--reference", study / "clean", "--range", 1, "--csv", table)
    assert done.exit_code == 0, done.output
    assert "| image | PSNR (dB) | affine PSNR (dB) | SSIM | MAE |" in done.stdout
    assert "| a.tif | 20.00 |" in done.stdout and "| mean | 30.00 |" in done.stdout and "| sd | 14.14 |" in done.stdout
    assert len(table.read_text(encoding="utf-8").splitlines()) == 5
    record = json.loads((study / "scores.csv.json").read_text(encoding="utf-8"))
    assert record["data_range"] == 1.0 and len(record["pairs"]) == 2
    assert "exists already" in refused(
        call(study / "restored", "--reference", study / "clean", "--range", 1, "--csv", table, "-q", "--json"), 1
    )


def test_the_range_of_the_reference_is_told(study: Path) -> None:
    done = call(study / "restored" / "a.tif", "--reference", study / "clean" / "a.tif")
    assert "note: The range of PSNR and SSIM is largest less smallest" in done.stderr
    assert not call(study / "restored" / "a.tif", "--reference", study / "clean" / "a.tif", "-q").stderr


def test_labels_as_objects_and_as_classes(study: Path) -> None:
    done = call(study / "found", "--labels", study / "truth", "--iou", 0.5, "--iou", 0.75, "--json")
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)["rows"]
    assert [row["image"] for row in rows] == ["a_labels.tif", "b_labels.tif", "mean", "sd", "all together"]
    assert rows[0]["ap_50"] == rows[0]["ap_75"] == rows[0]["recall_50"] == pytest.approx(5 / 6)
    assert (rows[-1]["n_true"], rows[-1]["n_found"]) == (12, 10)
    classes = call(study / "found", "--labels", study / "truth", "--as", "classes", "--ignore", 0, "--json")
    first = json.loads(classes.stdout)["rows"][0]
    assert first["iou_2"] == 0.0 and first["iou_1"] == 1.0


def test_points_against_points(study: Path) -> None:
    done = call(study / "points" / "a_points.csv", "--points", study / "true.csv", "--match-within", 2)
    assert done.exit_code == 0, done.output
    assert "| a_points.csv | 7 | 6 | 1.000 | 0.857 | 0.923 |" in done.stdout


def test_what_cannot_be_measured_is_named_and_the_code_says_so(study: Path) -> None:
    write(study / "restored" / "c.tif", RAMP, "YX")
    write(study / "clean" / "b.tif", RAMP[:9], "YX", overwrite=True)
    done = call(study / "restored", "--reference", study / "clean")
    assert done.exit_code == 1
    assert "| a.tif | 20.00 |" in done.stdout
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "c.tif has no reference" in errors[0] and "size 32 × 32, its reference “b.tif” 9 × 32" in errors[1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["restored/a.tif"], "one image is not enough"),
        (["restored/a.tif", "--reference", "clean", "--labels", "truth"], "measure one after the other"),
        (["restored/a.tif", "--reference", "clean", "--mask", "truth"], "--mask belongs to RAW ENHANCED"),
        (["restored/a.tif", "--reference", "clean", "--iou", "0.5"], "--iou belongs to another kind"),
        (["restored/a.tif", "clean/a.tif", "--range", "1", "--ignore", "0"], "--range and --ignore belong to"),
        (["found", "--labels", "truth", "--iou", "2"], "least overlap is 2"),
        (["restored/a.tif", "--reference", "nowhere"], "there is no file or folder nowhere"),
    ],
)
def test_words_that_do_not_go_together(
    study: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    monkeypatch.chdir(study)
    assert said in refused(call(*words), 2)


def test_labels_that_points_lie_in(study: Path) -> None:
    done = call(study / "found" / "a_labels.tif", "--points", study / "true.csv", "--json")
    assert done.exit_code == 0, done.output
    (row,) = json.loads(done.stdout)["rows"]
    # One of the objects is not labelled, and one point lies on the ground.
    assert row["n_true"] == row["n_found"] + 2 and row["precision"] == 1
    assert row["recall"] == pytest.approx(row["n_found"] / row["n_true"])
    folder = call(study / "found", "--points", study / "points", "--json")
    assert [r["image"] for r in json.loads(folder.stdout)["rows"]] == ["a_labels.tif"]
    assert "no reference" in folder.stderr and folder.exit_code == 1
    assert "belongs to another kind" in refused(
        call(study / "found", "--points", study / "points", "--match-within", 3), 2
    )


def test_boxes_around_objects(study: Path) -> None:
    done = call(study / "found", "--labels", study / "truth", "--as", "boxes", "--json")
    assert done.exit_code == 0, done.output
    row = json.loads(done.stdout)["rows"][0]
    assert row["precision"] == 1 and row["n_true"] == row["n_found"] + 1 and 0.5 < row["iou"] < 1
    assert "less than 1" in refused(call(study / "found", "--labels", study / "truth", "--as", "boxes", "--iou", 1), 2)


def test_conditions_are_compared(tmp_path: Path) -> None:
    def compare(*words: Any) -> Any:
        return CliRunner().invoke(app, ["compare", *(str(word) for word in words)])

    (tmp_path / "control.csv").write_text("image,n_found\na,9\nb,10\nc,11\nmean,10\nsd,1\n", encoding="utf-8")
    (tmp_path / "drug.csv").write_text("image,n_found\na,28\nb,30\nc,32\nd,\n", encoding="utf-8")
    tables = (tmp_path / "control.csv", tmp_path / "drug.csv")
    done = compare(*tables, "--column", "n_found", "--csv", tmp_path / "out.csv")
    assert done.exit_code == 0, done.output
    assert "control: 10 ± 1 (n 3)" in done.stdout and "Z-factor 0.55, p 0.1 (Mann-Whitney)" in done.stdout
    assert "cannot fall below 0.1" in done.stderr and "1 lines of drug.csv" in done.stderr
    assert (tmp_path / "out.csv").read_text(encoding="utf-8").startswith("condition,column,n,mean,sd,z_factor,p_mann")
    assert json.loads(compare(*tables, "--column", "n_found", "--json").stdout)["n"] == [3, 3]
    assert "there are image, n_found" in refused(compare(*tables, "--column", "f1"), 2)
    (tmp_path / "drug.csv").write_text("image,n_found\na,many\n", encoding="utf-8")
    assert "expected numbers" in refused(compare(*tables, "--column", "n_found"), 1)
