"""Files in, files out: what is planned, what is written, and what becomes of broken ones."""

from __future__ import annotations

import csv
import errno
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from napari_cellenhance.core.errors import ModelNotFoundError, ParameterError, WriteError
from napari_cellenhance.io.images import read, write
from napari_cellenhance.workflows import _file_loop, catalog, enhance, files
from napari_cellenhance.workflows._targets import find_sources, plan_targets
from napari_cellenhance.workflows.files import FileOutcome, FilesRequest
from napari_cellenhance.workflows.progress import Progress
from napari_cellenhance.workflows.requests import EnhanceRequest

GAMMA = EnhanceRequest(image=None, axes="", filter_id="gamma")


@pytest.fixture
def image() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 255, (20, 24), dtype=np.uint8)


@pytest.fixture
def plate(tmp_path: Path, image: NDArray[np.uint8]) -> Path:
    """A folder of two images, a text and a hidden file."""
    folder = tmp_path / "plate 1 ü"
    folder.mkdir()
    write(folder / "b.tif", image, "YX")
    Image.fromarray(image[::-1]).save(folder / "a.png")
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden.tif").write_bytes(b"")
    return folder


def request(source: Any, target: Any, **settings: Any) -> FilesRequest:
    return FilesRequest(source=source, target=target, **{"settings": GAMMA, **settings})


# --- which files ----------------------------------------------------------------------------


def test_a_folder_gives_its_images_sorted(plate: Path) -> None:
    assert [path.name for path in find_sources(plate)] == ["a.png", "b.tif"]


def test_a_pattern_gives_the_matches(plate: Path) -> None:
    assert [path.name for path in find_sources(plate / "*.tif")] == ["b.tif"]
    assert [path.name for path in find_sources(f"{plate.parent}/**/*.png")] == ["a.png"]


def test_a_name_with_brackets_is_taken_literally(tmp_path: Path, image: NDArray[np.uint8]) -> None:
    path = write(tmp_path / "cells [1].tif", image, "YX")
    assert find_sources(path) == (path,)


@pytest.mark.parametrize("name", ["nothing.tif", "no*.tif", "empty"])
def test_nothing_to_do_is_said(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ParameterError, match=r"check the spelling|no image matches|holds no image"):
        find_sources(tmp_path / name)


# --- where to -------------------------------------------------------------------------------


def test_one_file_to_one_file() -> None:
    (targets,) = plan_targets([Path("a.tif")], "b.png", labels="l.tif", points="p.csv")
    assert targets.all == (Path("b.png"), Path("l.tif"), Path("p.csv"))


def test_a_folder_names_the_results_after_the_sources(tmp_path: Path) -> None:
    sources = [Path("in/x.ome.tif"), Path("in/y.png")]
    plan = plan_targets(sources, tmp_path, labels=tmp_path / "l", points=tmp_path / "p")
    assert [targets.image.name for targets in plan] == ["x.ome.tif", "y.ome.tif"]
    assert plan[1].labels == tmp_path / "l" / "y_labels.ome.tif"
    assert plan[1].points == tmp_path / "p" / "y_points.csv"


def test_sources_of_one_name_get_results_of_two() -> None:
    plan = plan_targets([Path("x.tif"), Path("X.png"), Path("z.tif")], "out")
    assert [targets.image.name for targets in plan] == ["x.tif.ome.tif", "X.png.ome.tif", "z.ome.tif"]


def test_originals_are_never_the_target(tmp_path: Path) -> None:
    source = tmp_path / "a.ome.tif"
    for target in (source, tmp_path / "." / "a.ome.tif", tmp_path):
        with pytest.raises(ParameterError, match="replace the original"):
            plan_targets([source], target)


def test_one_file_for_image_and_labels_is_refused() -> None:
    with pytest.raises(ParameterError, match="same name"):
        plan_targets([Path("a.tif")], "b.tif", labels="b.tif")


def test_a_file_name_for_a_folder_of_images_is_refused() -> None:
    with pytest.raises(ParameterError, match="expected a folder"):
        plan_targets([Path("a.tif"), Path("b.tif")], "out.tif")


# --- the run --------------------------------------------------------------------------------


def test_pixels_are_those_of_the_plain_workflow(plate: Path, tmp_path: Path, image: NDArray[np.uint8]) -> None:
    result = files.run(request(plate, tmp_path / "deep" / "out"))
    assert result.is_complete
    assert result.n_failed == 0
    expected = enhance.run(EnhanceRequest(image=image, axes="YX", filter_id="gamma")).image
    np.testing.assert_array_equal(read(tmp_path / "deep" / "out" / "b.ome.tif").image, expected)


def test_the_filter_is_opened_once(plate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    original = catalog.open_enhancer

    def counting(*arguments: Any, **settings: Any) -> Any:
        opened.append(arguments)
        return original(*arguments, **settings)

    monkeypatch.setattr(catalog, "open_enhancer", counting)
    assert len(files.run(request(plate, tmp_path / "out")).outcomes) == 2
    assert len(opened) == 1


def test_axes_sizes_names_and_recipe_are_kept(tmp_path: Path) -> None:
    stack = np.random.default_rng(1).integers(0, 4000, (2, 3, 16, 18), dtype=np.uint16)
    sizes = {"Z": 2.0, "Y": 0.25, "X": 0.5}
    source = write(
        tmp_path / "stack.ome.tif",
        stack,
        "ZCYX",
        pixel_size_um=sizes,
        channel_names=("DNA", "actin", "H3"),
        dtype="keep",
    )
    settings = EnhanceRequest(image=None, axes="", filter_id="gamma", channels=(2, 0), statistics="stack")
    files.run(request(source, tmp_path / "out.ome.tif", settings=settings))
    back = read(tmp_path / "out.ome.tif")
    assert (back.axes, back.image.shape) == ("ZCYX", (2, 2, 16, 18))
    assert back.pixel_size_um == sizes
    assert back.channel_names == ("H3", "DNA")
    assert back.provenance is not None
    assert back.provenance["filter"] == "gamma"
    assert back.provenance["source"]["name"] == "stack.ome.tif"


def test_axes_of_the_user_win_over_those_of_the_file(tmp_path: Path) -> None:
    source = write(tmp_path / "film.tif", np.arange(3 * 8 * 8, dtype=np.uint8).reshape(3, 8, 8), "ZYX")
    files.run(request(source, tmp_path / "out.tif", settings=EnhanceRequest(image=None, axes="TYX", filter_id="gamma")))
    assert read(tmp_path / "out.tif").axes == "TYX"


@pytest.mark.parametrize("strength", [0, 0.0])
def test_strength_0_returns_the_file(tmp_path: Path, image: NDArray[np.uint8], strength: float) -> None:
    source = write(tmp_path / "a.tif", image, "YX", dtype="keep")
    settings = EnhanceRequest(image=None, axes="", filter_id="gamma", strength=strength)
    for name in ("b.tif", "b.png"):
        files.run(request(source, tmp_path / name, settings=settings))
        back = read(tmp_path / name).image
        assert back.dtype == np.uint8
        np.testing.assert_array_equal(back, image)


def test_an_rgb_png_gives_an_rgb_png(tmp_path: Path) -> None:
    pixels = np.random.default_rng(2).integers(0, 255, (12, 14, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "in.png")
    files.run(request(tmp_path / "in.png", tmp_path / "out.png"))
    back = read(tmp_path / "out.png")
    assert (back.axes, back.image.shape, back.image.dtype) == ("YXS", (12, 14, 3), np.uint8)
    assert not np.array_equal(back.image, pixels)


@pytest.mark.parametrize(("dtype", "top"), [("uint8", 255), ("uint16", 65535)])
def test_integers_hold_0_to_1_as_0_to_the_maximum(
    tmp_path: Path, image: NDArray[np.uint8], dtype: Any, top: int
) -> None:
    source = write(tmp_path / "a.tif", image, "YX", dtype="keep")
    files.run(request(source, tmp_path / "float.tif"))
    files.run(request(source, tmp_path / "integer.tif", dtype=dtype))
    expected = np.rint(read(tmp_path / "float.tif").image.astype(np.float64) * top)
    np.testing.assert_array_equal(read(tmp_path / "integer.tif").image, expected)


def test_labels_and_points_are_written(tmp_path: Path) -> None:
    y, x = np.mgrid[:64, :64]
    discs = sum((np.hypot(y - cy, x - cx) < 7).astype(np.uint8) * 200 for cy, cx in ((16, 16), (16, 48), (44, 30)))
    source = write(tmp_path / "a.tif", np.asarray(discs, np.uint8), "YX", dtype="keep")
    files.run(request(source, tmp_path / "b.tif", labels=tmp_path / "labels.tif", points=tmp_path / "points.csv"))
    labels = read(tmp_path / "labels.tif").image
    assert labels.dtype.kind == "u"
    assert labels.shape == (64, 64)
    assert set(np.unique(labels)) == {0, 1, 2, 3}
    with open(tmp_path / "points.csv", encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["index", "axis-0", "axis-1", "radius_px"]
    found = np.array([[float(row["axis-0"]), float(row["axis-1"])] for row in rows])
    for centre in ((16, 16), (16, 48), (44, 30)):
        assert np.hypot(*(found - centre).T).min() < 2


def test_dark_objects_are_noticed_where_nobody_said_so(tmp_path: Path) -> None:
    y, x = np.mgrid[:64, :64]
    holes = 200 - 150 * sum((np.hypot(y - cy, x - cx) < 6) for cy, cx in ((16, 16), (16, 48), (44, 30)))
    source = write(tmp_path / "a.tif", np.asarray(holes, np.uint8), "YX", dtype="keep")
    dark = EnhanceRequest(image=None, axes="", filter_id="gamma", objects_are_dark=True)
    warned = []
    for name, settings, is_asked in (("b", GAMMA, True), ("c", GAMMA, False), ("d", dark, True)):
        job = request(source, tmp_path / f"{name}.tif", settings=settings, suggest_contrast=is_asked)
        (outcome,) = files.run(job).outcomes
        warned.append([warning for warning in outcome.warnings if "darker than the ground" in warning])
    assert [len(warnings) for warnings in warned] == [1, 0, 0]


# --- what goes wrong ------------------------------------------------------------------------


def test_a_broken_file_is_recorded_and_the_next_one_starts(plate: Path, tmp_path: Path) -> None:
    whole = (plate / "b.tif").read_bytes()
    (plate / "cut.tif").write_bytes(whole[: len(whole) // 2])
    (plate / "empty.png").write_bytes(b"")
    (plate / "liar.png").write_text("this is text")
    told: list[FileOutcome] = []
    result = files.run(request(plate, tmp_path / "out"), on_outcome=told.append)
    assert tuple(told) == result.outcomes
    errors = {outcome.source.name: outcome.error for outcome in result.outcomes}
    assert list(errors) == ["a.png", "b.tif", "cut.tif", "empty.png", "liar.png"]
    assert errors["a.png"] == errors["b.tif"] == ""
    assert result.n_failed == 3
    for name in ("cut.tif", "empty.png", "liar.png"):
        assert name in errors[name]
        assert "\n" not in errors[name]
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["a.ome.tif", "a.recipe.json", "b.ome.tif", "b.recipe.json"]


def test_existing_results_are_refused_unless_asked(plate: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.ome.tif").write_text("precious")
    result = files.run(request(plate, out))
    assert [outcome.is_done for outcome in result.outcomes] == [False, True]
    assert "exists already" in result.outcomes[0].error
    assert (out / "a.ome.tif").read_text() == "precious"
    assert files.run(request(plate, out, overwrite=True)).n_failed == 0
    assert read(out / "a.ome.tif").axes == "YX"


def test_existing_labels_are_found_out_before_computing(
    plate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enhance, "apply", lambda *a, **k: pytest.fail("computed in vain"))
    (tmp_path / "labels.tif").write_text("precious")
    result = files.run(request(plate / "b.tif", tmp_path / "b.tif", labels=tmp_path / "labels.tif"))
    assert "labels.tif exists already" in result.outcomes[0].error


def test_a_folder_that_cannot_be_written_is_said_before_computing(
    plate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(dir: Path) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    # Not made with chmod: the superuser may write everywhere.
    monkeypatch.setattr(_file_loop.tempfile, "TemporaryFile", read_only)
    monkeypatch.setattr(enhance, "apply", lambda *a, **k: pytest.fail("computed in vain"))
    result = files.run(request(plate / "b.tif", tmp_path / "b.tif"))
    assert "cannot be written (Read-only file system)" in result.outcomes[0].error


def test_a_stack_for_a_png_is_refused_before_computing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write(tmp_path / "a.tif", np.arange(2 * 3 * 64, dtype=np.uint8).reshape(3, 2, 8, 8), "CZYX", dtype="keep")
    one = EnhanceRequest(image=None, axes="CTYX", filter_id="gamma", channels=(1,))
    monkeypatch.setattr(enhance, "apply", lambda *a, **k: pytest.fail("computed in vain"))
    for settings, n_planes in ((GAMMA, 6), (one, 2)):
        result = files.run(request(source, tmp_path / "b.png", settings=settings))
        assert f"has {n_planes}; choose a name ending in .ome.tif" in result.outcomes[0].error


@pytest.mark.parametrize("words", [{"target": "b.jpg"}, {"target": "b"}, {"target": "b.tif", "labels": "l.csv"}])
def test_other_formats_are_refused(words: dict[str, str]) -> None:
    with pytest.raises(ParameterError, match="expected a name ending in"):
        plan_targets([Path("a.tif")], **words)


def test_a_file_in_the_place_of_the_folder(plate: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("I am a file")
    with pytest.raises(WriteError, match="cannot be made"):
        files.run(request(plate, tmp_path / "out"))
    assert (tmp_path / "out").read_text() == "I am a file"


def test_a_missing_folder_of_a_single_file_is_said(plate: Path, tmp_path: Path) -> None:
    with pytest.raises(WriteError, match="there is no folder"):
        files.run(request(plate / "b.tif", tmp_path / "misspelt" / "b.tif"))


def test_wrong_axes_fail_the_file_only(plate: Path, tmp_path: Path) -> None:
    settings = EnhanceRequest(image=None, axes="ZYX", filter_id="gamma")
    result = files.run(request(plate / "b.tif", tmp_path / "b.tif", settings=settings))
    assert "ZYX" in result.outcomes[0].error
    assert not (tmp_path / "b.tif").exists()


def test_an_unknown_filter_is_said_before_anything_begins(plate: Path, tmp_path: Path) -> None:
    for strength in (None, 0.0):
        settings = EnhanceRequest(image=None, axes="", filter_id="magic", strength=strength)
        with pytest.raises(ModelNotFoundError, match="magic"):
            files.run(request(plate, tmp_path / "out", settings=settings))


def test_a_strength_that_is_no_number_is_said_before_anything_begins(plate: Path, tmp_path: Path) -> None:
    settings = EnhanceRequest(image=None, axes="", filter_id="gamma", strength=float("nan"))
    with pytest.raises(ParameterError, match="nan"):
        files.run(request(plate, tmp_path / "out", settings=settings))


def test_an_unknown_pixel_type_is_refused() -> None:
    with pytest.raises(ParameterError, match="float16"):
        request("a", "b", dtype="float16")


def test_a_fault_of_ours_is_not_swallowed(plate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(*arguments: Any, **settings: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(enhance, "apply", fault)
    with pytest.raises(ZeroDivisionError):
        files.run(request(plate, tmp_path / "out"))


# --- progress and cancelling ----------------------------------------------------------------


def test_progress_names_the_file(plate: Path, tmp_path: Path) -> None:
    told: list[Progress] = []
    files.run(request(plate, tmp_path / "out"), on_progress=told.append)
    messages = [progress.message for progress in told]
    assert messages[0].startswith("Loading")
    assert any(message.startswith("a.png (1 of 2): ") for message in messages)
    assert messages[-1].startswith("b.tif (2 of 2): ")


def test_a_cancel_keeps_finished_files_and_no_part_of_others(plate: Path, tmp_path: Path) -> None:
    done: list[FileOutcome] = []
    result = files.run(request(plate, tmp_path / "out"), on_outcome=done.append, is_cancelled=lambda: bool(done))
    assert not result.is_complete
    assert [outcome.source.name for outcome in result.outcomes] == ["a.png"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.ome.tif", "a.recipe.json"]


def test_a_cancel_in_the_middle_of_a_file_leaves_nothing(plate: Path, tmp_path: Path) -> None:
    answers = iter([False, *[True] * 99])
    result = files.run(request(plate, tmp_path / "out"), is_cancelled=lambda: next(answers))
    assert (result.outcomes, result.is_complete) == ((), False)
    assert list((tmp_path / "out").iterdir()) == []


def test_an_outcome_as_json() -> None:
    outcome = FileOutcome(source=Path("a"), targets=(Path("b"),), seconds=1.23456, warnings=("flat",))
    assert outcome.to_dict() == {
        "source": "a", "targets": ["b"], "seconds": 1.235, "error": "", "warnings": ["flat"],
    }  # fmt: skip


def test_a_folder_with_one_image_still_gives_a_folder_of_results(tmp_path: Path) -> None:
    from napari_cellenhance.workflows._targets import plan

    (tmp_path / "plate").mkdir()
    image = tmp_path / "plate" / "a.tif"
    image.write_bytes(b"never read")
    (from_folder,) = plan(tmp_path / "plate", tmp_path / "out")
    assert from_folder.image == tmp_path / "out" / "a.ome.tif"
    (from_pattern,) = plan(tmp_path / "plate" / "*.tif", tmp_path / "out")
    assert from_pattern.image == tmp_path / "out" / "a.ome.tif"
    (from_file,) = plan(image, tmp_path / "one.tif")
    assert from_file.image == tmp_path / "one.tif"
