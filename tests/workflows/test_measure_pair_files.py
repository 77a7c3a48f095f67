"""Files against references: which belong together, what becomes of those that do not, one table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.io.images import write
from napari_cellenhance.workflows.measure_pair_files import PairFilesRequest, PairFilesResult, run
from napari_cellenhance.workflows.measure_pairs import PairOptions

RAMP = np.linspace(0, 1, 16 * 16, dtype=np.float32).reshape(16, 16)
LABELS = np.zeros((16, 16), np.uint16)
LABELS[2:6, 2:6], LABELS[9:14, 8:13] = 1, 2


def put(path: Path, pixels: Any, axes: str = "YX") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return write(path, pixels, axes, dtype="keep")


def measure(results: Path | tuple[Path, ...], reference: Path, axes: str = "", **options: Any) -> PairFilesResult:
    paths = results if isinstance(results, tuple) else (results,)
    return run(PairFilesRequest(results=paths, reference=reference, options=PairOptions(**options), axes=axes))


def pairs(result: PairFilesResult) -> list[tuple[str, str]]:
    return [(score.name, score.reference) for score in result.scores]


def test_a_folder_is_paired_by_name_and_averaged(tmp_path: Path) -> None:
    for name, shift in (("a", 0.1), ("b", 0.01)):
        put(tmp_path / "restored" / f"{name}.ome.tif", RAMP + np.float32(shift))
        put(tmp_path / "clean" / f"{name}.tif", RAMP)
    done = measure(tmp_path / "restored", tmp_path / "clean")
    assert pairs(done) == [("a.ome.tif", "a.tif"), ("b.ome.tif", "b.tif")]
    assert [row["psnr_db"] for row in done.rows[:3]] == pytest.approx([20, 40, 30], abs=1e-3)
    assert done.rows[3]["psnr_db"] == pytest.approx(np.std([20, 40], ddof=1), abs=1e-3)
    assert "largest less smallest" in done.notes[-1] and done.is_complete and not done.failures
    assert done.record["pairs"][0]["reference"].endswith("a.tif")


def test_one_reference_serves_several_results(tmp_path: Path) -> None:
    put(tmp_path / "clean.tif", RAMP)
    results = tuple(put(tmp_path / f"{name}.tif", RAMP + np.float32(0.1)) for name in "xy")
    done = measure(results, tmp_path / "clean.tif", data_range=1.0)
    assert pairs(done) == [("x.tif", "clean.tif"), ("y.tif", "clean.tif")]
    assert not [note for note in done.notes if "largest less" in note], "the range was stated"


def test_labels_are_meant_where_labels_are_measured(tmp_path: Path) -> None:
    put(tmp_path / "truth" / "cells.tif", (RAMP * 60000).astype(np.uint16))
    put(tmp_path / "truth" / "cells_labels.tif", LABELS)
    put(tmp_path / "found" / "Cells.ome.tif", RAMP)
    put(tmp_path / "found" / "Cells_labels.ome.tif", LABELS)
    done = measure(tmp_path / "found", tmp_path / "truth", kind="objects")
    assert pairs(done) == [("Cells_labels.ome.tif", "cells_labels.tif")]
    assert done.rows[0]["ap_50"] == 1.0


def test_enhanced_images_find_the_clean_ones(tmp_path: Path) -> None:
    put(tmp_path / "cells.tif", RAMP)
    put(tmp_path / "cells_labels.tif", LABELS)
    put(tmp_path / "cells_enhanced.ome.tif", RAMP)
    assert pairs(measure(tmp_path, tmp_path)) == [("cells_enhanced.ome.tif", "cells.tif")]


def test_nothing_is_compared_with_itself(tmp_path: Path) -> None:
    put(tmp_path / "cells.tif", RAMP)
    done = measure(tmp_path / "cells.tif", tmp_path)
    assert "compared with itself" in done.failures[0] and done.rows == ()


def test_what_has_no_partner_is_told_and_the_rest_is_measured(tmp_path: Path) -> None:
    for name in ("a", "b"):
        put(tmp_path / "found" / f"{name}.tif", LABELS)
    for name in ("b", "c"):
        put(tmp_path / "truth" / f"{name}.png", LABELS)
    done = measure(tmp_path / "found", tmp_path / "truth", kind="classes")
    assert pairs(done) == [("b.tif", "b.png")]
    assert "a.tif has no reference" in done.failures[0]
    assert "Without a result, and not measured: c.png" in done.notes[0]


def test_files_that_cannot_be_measured_are_named(tmp_path: Path) -> None:
    for name, pixels in (("a", RAMP), ("b", RAMP[:8]), ("c", RAMP)):
        put(tmp_path / "restored" / f"{name}.tif", pixels)
        put(tmp_path / "clean" / f"{name}.tif", RAMP)
    (tmp_path / "restored" / "c.tif").write_bytes(b"II*\0 nothing")
    done = measure(tmp_path / "restored", tmp_path / "clean")
    assert pairs(done) == [("a.tif", "a.tif")]
    assert "size 8 × 16, its reference “b.tif” 16 × 16" in done.failures[0]
    assert "c.tif" in done.failures[1]


def test_a_stack_with_guessed_axes_fits_one_with_named_axes(tmp_path: Path) -> None:
    import tifffile

    stack = np.stack([RAMP] * 3)
    put(tmp_path / "restored.ome.tif", stack, "TYX")
    tifffile.imwrite(tmp_path / "clean.tif", stack, photometric="minisblack")
    done = measure(tmp_path / "restored.ome.tif", tmp_path / "clean.tif")
    assert done.rows[0]["n_planes"] == 3 and "plane by plane" in done.notes[0]


def test_points_of_folders(tmp_path: Path) -> None:
    for folder, text in (("found", "index,axis-0,axis-1\n0,5,5\n1,9,9\n"), ("truth", "y,x\n5,6\n")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"a{'_points' if folder == 'found' else ''}.csv").write_text(text, encoding="utf-8")
    done = measure(tmp_path / "found", tmp_path / "truth", kind="points", match_within_px=2)
    assert (done.rows[0]["precision"], done.rows[0]["recall"]) == (0.5, 1.0)
    assert "match_within_px" in done.record


def test_names_that_fit_twice_are_refused(tmp_path: Path) -> None:
    put(tmp_path / "a.tif", RAMP)
    for name in ("clean/a.tif", "clean/a.png"):
        put(tmp_path / name, (RAMP * 255).astype(np.uint8))
    with pytest.raises(ParameterError, match=r"a\.png, a\.tif in .* have the same name"):
        measure(tmp_path / "a.tif", tmp_path / "clean")


def test_nothing_that_fits_is_refused_with_an_example(tmp_path: Path) -> None:
    put(tmp_path / "a.tif", LABELS)
    put(tmp_path / "truth" / "z.tif", LABELS)
    with pytest.raises(ParameterError, match=r"nothing in .* belongs to a\.tif; .* such as a_labels\.tif"):
        measure(tmp_path / "a.tif", tmp_path / "truth", kind="objects")
    with pytest.raises(ParameterError, match="there is no file or folder"):
        measure(tmp_path / "a.tif", tmp_path / "nowhere")
    with pytest.raises(ParameterError, match="there is no file or folder"):
        measure(tmp_path / "nowhere.csv", tmp_path / "truth", kind="points")
    with pytest.raises(ParameterError, match="no table of points"):
        measure(tmp_path, tmp_path / "truth", kind="points")
    with pytest.raises(ParameterError, match="nothing to measure"):
        measure((), tmp_path)


def test_cancelling_keeps_what_was_measured(tmp_path: Path) -> None:
    for name in "ab":
        put(tmp_path / "restored" / f"{name}.tif", RAMP)
        put(tmp_path / "clean" / f"{name}.tif", RAMP)
    request = PairFilesRequest(results=(tmp_path / "restored",), reference=tmp_path / "clean")
    told: list[str] = []
    done = run(request, on_progress=lambda p: told.append(p.message), is_cancelled=lambda: "Measuring b.tif" in told)
    assert pairs(done) == [("a.tif", "a.tif")] and not done.is_complete
    assert told[0] == "Measuring a.tif"
