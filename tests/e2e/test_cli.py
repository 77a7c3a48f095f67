"""The terminal door: exit codes, one line per error, the same pixels as the other doors."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from napari_cellenhance.cli import app, words
from napari_cellenhance.io.images import read, write
from napari_cellenhance.workflows import enhance, files
from napari_cellenhance.workflows.progress import Progress
from napari_cellenhance.workflows.requests import EnhanceRequest

Terminal = Callable[..., Any]


def call(*words: Any) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


def refused(result: Any, code: int) -> str:
    """The one line of an error."""
    assert result.exit_code == code, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    return line


# --- in a program of its own ----------------------------------------------------------------


def test_help_loads_neither_torch_nor_napari(terminal: Terminal) -> None:
    heavy = "[name for name in ('torch', 'napari', 'qtpy', 'skimage', 'tifffile') if name in sys.modules]"
    last_words = f"import atexit, sys; atexit.register(lambda: print('loaded:', {heavy}))"
    code = f"{last_words}\nfrom napari_cellenhance.cli import main; main()"
    for asked in (["--help"], ["enhance", "--help"], ["train", "nunet", "--help"], ["models", "list"], ["--version"]):
        ended = terminal(*asked, code=code)
        assert ended.returncode == 0, ended.stderr
        assert "loaded: []" in ended.stdout, words
        assert ended.stderr == ""


def test_three_doors_give_the_same_pixels(
    terminal: Terminal, folder: Path, picture: NDArray[np.uint16], nunet_id: str
) -> None:
    import napari_cellenhance

    source, target = folder / "Bild 1.tif", folder / "Bild 1, verbessert.ome.tif"
    write(source, picture, "YX", pixel_size_um={"Y": 0.5, "X": 0.5}, dtype="keep")
    ended = terminal("enhance", source, target, "--model", nunet_id, "--strength", "6.5", "--device", "cpu")
    assert ended.returncode == 0, ended.stderr
    assert str(target) in ended.stdout
    assert ended.stderr == ""  # no progress where nobody watches
    from_terminal = read(target)
    request = EnhanceRequest(image=picture, axes="YX", filter_id=nunet_id, strength=6.5, device="cpu")
    from_workflow = enhance.run(request).image
    from_python = napari_cellenhance.enhance(picture, model=nunet_id, strength=6.5, device="cpu")
    np.testing.assert_array_equal(from_terminal.image, from_workflow)
    np.testing.assert_array_equal(from_python, from_workflow)
    assert from_workflow.std() > 0
    assert from_terminal.pixel_size_um == {"Y": 0.5, "X": 0.5}
    assert from_terminal.provenance is not None
    assert from_terminal.provenance["strength"] == 6.5


def test_an_error_is_one_line_and_no_traceback(terminal: Terminal, folder: Path) -> None:
    ended = terminal("enhance", folder / "nothing.tif", folder / "out.tif")
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith("error: ")
    assert "nothing.tif" in line


def test_a_damaged_file_is_one_line(terminal: Terminal, folder: Path, picture: NDArray[np.uint16]) -> None:
    whole = write(folder / "whole.tif", picture, "YX", dtype="keep").read_bytes()
    (folder / "cut.tif").write_bytes(whole[:3000])
    ended = terminal("enhance", folder / "cut.tif", folder / "out.tif", "--model", "gamma")
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.count("cut.tif") == 1
    assert not (folder / "out.tif").exists()


def test_debug_shows_where_an_error_arose(terminal: Terminal, folder: Path) -> None:
    ended = terminal("enhance", folder / "nothing.tif", folder / "out.tif", "--debug")
    assert ended.returncode == 2
    assert "Traceback" in ended.stderr
    assert "find_sources" in ended.stderr
    assert ended.stderr.splitlines()[-1].startswith("error: ")


def test_debug_shows_where_a_file_failed(terminal: Terminal, folder: Path) -> None:
    (folder / "text.tif").write_text("no image")
    ended = terminal("--debug", "enhance", folder / "text.tif", folder / "out.tif", "--model", "gamma")
    assert ended.returncode == 1
    assert "Traceback" in ended.stderr
    assert "ImageError" in ended.stderr


# --- enhance --------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["tif", "ome.tif", "png"])
def test_every_ending_in_and_out(tmp_path: Path, picture: NDArray[np.uint16], ending: str) -> None:
    source, target = tmp_path / f"in.{ending}", tmp_path / f"out.{ending}"
    write(source, picture, "YX", dtype="keep")
    assert call("enhance", source, target, "--model", "gamma").exit_code == 0
    expected = enhance.run(EnhanceRequest(image=picture, axes="YX", filter_id="gamma")).image
    if ending == "png":
        np.testing.assert_array_equal(read(target).image, np.rint(expected.astype(np.float64) * 255))
    else:
        np.testing.assert_array_equal(read(target).image, expected)


def test_every_option_reaches_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[files.FilesRequest] = []

    def run(request: files.FilesRequest, **callbacks: Any) -> files.FilesResult:
        seen.append(request)
        return files.FilesResult(outcomes=())

    monkeypatch.setattr(files, "run", run)
    words = (
        "enhance a.tif b.tif --model dog --strength 2.5 --axes ZYX --channels 0,2 --dark --statistics stack "
        "--device cpu --precision float32 --tile 128 --dtype uint16 --labels l.tif --points p.csv "
        "--threshold 0.4 --no-split --min-size 7 --radius 3 9 --overwrite --quiet"
    )
    assert call(*words.split()).exit_code == 0
    (request,) = seen
    assert (request.source, request.target, request.dtype, request.overwrite) == (("a.tif",), "b.tif", "uint16", True)
    assert (request.labels, request.points) == ("l.tif", "p.csv")
    settings = request.settings
    assert (settings.filter_id, settings.strength, settings.axes, settings.channels) == ("dog", 2.5, "ZYX", (0, 2))
    assert (settings.objects_are_dark, settings.statistics, settings.device) == (True, "stack", "cpu")
    assert (settings.precision, settings.tile_px) == ("float32", 128)
    assert settings.segment is not None
    assert settings.blobs is not None
    assert (settings.segment.method, settings.segment.threshold) == ("manual", 0.4)
    assert (settings.segment.split_touching, settings.segment.min_size_px) == (False, 7)
    assert (settings.blobs.min_radius_px, settings.blobs.max_radius_px) == (3.0, 9.0)


def test_without_options_the_defaults_are_those_of_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[files.FilesRequest] = []

    def run(request: files.FilesRequest, **callbacks: Any) -> files.FilesResult:
        seen.append(request)
        return files.FilesResult(outcomes=())

    monkeypatch.setattr(files, "run", run)
    assert call("enhance", "a.tif", "b.tif").exit_code == 0
    assert seen[0].settings == EnhanceRequest(image=None, axes="")
    assert seen[0].suggest_contrast


def test_a_folder_with_a_broken_file(folder: Path, picture: NDArray[np.uint16]) -> None:
    write(folder / "good.tif", picture, "YX", dtype="keep")
    (folder / "broken.tif").write_bytes(b"II*\0")
    out, report = folder / "out", folder / "report.json"
    result = call("enhance", folder, out, "--model", "gamma", "--report", report)
    assert "broken.tif" in refused(result, 1)
    assert "1 of 2 files enhanced" in result.stdout
    assert (out / "good.ome.tif").is_file()
    rows = json.loads(report.read_text(encoding="utf-8"))
    assert [(Path(row["source"]).name, bool(row["error"])) for row in rows] == [
        ("broken.tif", True),
        ("good.tif", False),
    ]


def test_names_that_the_shell_has_listed(folder: Path, picture: NDArray[np.uint16]) -> None:
    for name in ("a.tif", "b.tif"):
        write(folder / name, picture, "YX", dtype="keep")
    result = call("enhance", folder / "a.tif", folder / "b.tif", folder / "out", "--model", "gamma")
    assert result.exit_code == 0
    assert sorted(path.name for path in (folder / "out").iterdir()) == [
        "a.ome.tif", "a.recipe.json", "b.ome.tif", "b.recipe.json",
    ]  # fmt: skip


def test_existing_results_need_a_word(tmp_path: Path, picture: NDArray[np.uint16]) -> None:
    source = write(tmp_path / "a.tif", picture, "YX", dtype="keep")
    (tmp_path / "b.tif").write_text("precious")
    words = ("enhance", source, tmp_path / "b.tif", "--model", "gamma")
    line = refused(call(*words), 1)
    assert "exists already" in line and line.endswith("or give --overwrite")
    assert (tmp_path / "b.tif").read_text() == "precious"
    assert call(*words, "--overwrite").exit_code == 0
    assert read(tmp_path / "b.tif").image.shape == picture.shape


def test_quiet_says_nothing_but_errors(tmp_path: Path) -> None:
    flat = write(tmp_path / "flat.tif", np.ones((9, 9), np.uint8), "YX")
    result = call("enhance", flat, tmp_path / "b.tif", "--model", "gamma", "--quiet")
    assert (result.exit_code, result.output) == (0, "")
    loud = call("enhance", flat, tmp_path / "c.tif", "--model", "gamma")
    assert "note: flat.tif: " in loud.stderr
    assert "grey value" in loud.stderr


def test_rgb_png_to_grey(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (20, 22, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "in.png")
    words = ("enhance", tmp_path / "in.png", tmp_path / "out.png", "--model", "gamma", "--channels", "grey", "--dark")
    assert call(*words).exit_code == 0
    assert read(tmp_path / "out.png").axes == "YX"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--model", "magic"], "magic"),
        (["--channels", "red"], "channels are 'red'"),
        (["--labels", "x", "--threshold", "high"], "threshold is 'high'"),
        (["--points", "x", "--radius", "5", "2"], "blob radii"),
        (["--strength", "nan"], "nan"),
    ],
)
def test_wrong_usage_is_one_line(tmp_path: Path, picture: NDArray[np.uint16], words: list[str], expected: str) -> None:
    source = write(tmp_path / "a.tif", picture, "YX", dtype="keep")
    assert expected in refused(call("enhance", source, tmp_path / "b.tif", "--model", "gamma", *words), 2)
    assert not (tmp_path / "b.tif").exists()


@pytest.mark.parametrize(
    "words",
    [["enhance"], ["enhance", "a"], ["enhance", "a", "b", "--tile", "0"], ["enhance", "a", "b", "--bogus"], ["bogus"]],
)
def test_wrong_words_end_with_2(words: list[str]) -> None:
    assert call(*words).exit_code == 2


def test_ctrl_c_stops_cleanly(tmp_path: Path, picture: NDArray[np.uint16], monkeypatch: pytest.MonkeyPatch) -> None:
    original = enhance.apply

    def interrupted(*arguments: Any, **settings: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return original(*arguments, **settings)

    monkeypatch.setattr(enhance, "apply", interrupted)
    before = signal.getsignal(signal.SIGINT)
    source = write(tmp_path / "a.tif", picture, "YX", dtype="keep")
    assert "stopped" in refused(call("enhance", source, tmp_path / "b.tif", "--model", "gamma"), words.STOPPED)
    assert not (tmp_path / "b.tif").exists()
    assert signal.getsignal(signal.SIGINT) is before


# --- models ---------------------------------------------------------------------------------


def test_models_list(nunet_id: str) -> None:
    lines = call("models", "list").stdout.splitlines()
    assert any(line.startswith("nunet ") and " ready " in line for line in lines)
    assert any(line.startswith("dog ") and "built in" in line for line in lines)
    rows = json.loads(call("models", "list", "--json").stdout)
    assert [row["id"] for row in rows] == [line.split()[0] for line in lines]


def test_models_show(nunet_id: str) -> None:
    lines = call("models", "show", nunet_id).stdout.splitlines()
    assert any(line.startswith("axes:") for line in lines)
    assert max(map(len, lines)) < 600, "scores are for --json; a terminal would be flooded by them"
    shown = json.loads(call("models", "show", nunet_id, "--json").stdout)
    assert len(shown["file"]["sha256"]) == 64
    assert Path(shown["weights"]).is_file()
    assert json.loads(call("models", "show", "dog", "--json").stdout)["state"] == "built in"
    assert "magic" in refused(call("models", "show", "magic"), 2)


def test_models_fetch(nunet_id: str) -> None:
    fetched = json.loads(call("models", "fetch", nunet_id, "--json").stdout)
    assert Path(fetched["path"]).is_file()
    assert "is ready" in call("models", "fetch", nunet_id).stdout
    assert "no weights" in refused(call("models", "fetch", "dog"), 2)
    assert "magic" in refused(call("models", "fetch", "magic"), 2)


def test_a_download_that_fails_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_cellenhance.core.errors import DownloadError
    from napari_cellenhance.workflows import models

    def fails(*arguments: Any, **settings: Any) -> Path:
        raise DownloadError("the line\nis cut")

    monkeypatch.setattr(models, "fetch", fails)
    assert refused(call("models", "fetch", "nunet"), 1) == "error: the line is cut"


# --- doctor, demo, train, version -----------------------------------------------------------


def test_doctor(nunet_id: str) -> None:
    result = call("doctor", "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == "All is well."
    assert f"{nunet_id} on cpu" in result.stdout
    ill = call("doctor", "--device", "abacus", "--json")
    assert ill.exit_code == 1
    assert json.loads(ill.stdout)["is_healthy"] is False


def test_demo(folder: Path, nunet_id: str) -> None:
    out = folder / "new" / "demo"
    result = call("demo", "--out", out, "--device", "cpu", "--strength", "7")
    assert result.exit_code == 0, result.output
    enhanced = read(out / "nuclei_enhanced.ome.tif")
    assert (enhanced.axes, enhanced.image.shape, enhanced.image.dtype) == ("YX", (520, 696), np.float32)
    assert enhanced.provenance is not None
    assert (enhanced.provenance["filter"], enhanced.provenance["strength"]) == (nunet_id, 7.0)
    assert read(out / "before_after.png").image.ndim == 3
    for told in (out / "before_after.png", out / "nuclei_enhanced.ome.tif", " s, "):
        assert str(told) in result.stdout
    assert call("demo", "--out", out, "--device", "cpu", "--quiet").output == ""


def test_demo_into_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    assert "cannot be made" in refused(call("demo", "--out", tmp_path / "file"), 1)


def test_train_reaches_the_workflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_cellenhance.workflows import train

    seen: list[train.TrainRequest] = []

    def run(request: train.TrainRequest, **callbacks: Any) -> train.TrainResult:
        seen.append(request)
        return train.TrainResult(
            weights=tmp_path / "w", card=tmp_path / "c", history=tmp_path / "h", stopped="finished", model_id="mine",
            best_step=3,
            best_total=0.5,
        )  # fmt: skip

    monkeypatch.setattr(train, "run", run)
    words = (
        "train nunet data.json --out models --perception random --steps 7 --strength 6 --resume --id mine --no-install "
        "--set n_dry_run=3 --set diameters_px=[8,20] --teach both --masks shapes"
    )
    result = call(*words.split())
    assert result.exit_code == 0, result.output
    assert seen == [
        train.TrainRequest(
            data=Path("data.json"), out=Path("models"), perception="random", n_steps=7, strength=6.0, resume=True,
            model_id="mine", install=False, recipe_options={"n_dry_run": 3, "diameters_px": (8, 20)}, teach="both",
            masks=Path("shapes"),
        )
    ]  # fmt: skip
    assert "best at step 3" in result.stdout
    assert "--set is" in refused(call(*words.split(), "--set", "oops"), 2)


def test_version() -> None:
    from napari_cellenhance import __version__

    assert call("--version").stdout.strip() == f"cellenhance {__version__}"


# --- the progress line ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("progress", "text"),
    [
        (Progress(n_done=0, n_total=0, message="Loading"), "Loading"),
        (Progress(n_done=3, n_total=3, message="done", eta_s=0.2), "[100%] done, 0:00 left"),
        (Progress(n_done=1, n_total=3, message="a", eta_s=3725), "[ 33%] a, 1:02:05 left"),
    ],
)
def test_progress_as_text(progress: Progress, text: str) -> None:
    assert words.describe(progress) == text


def test_the_progress_line_is_written_over_and_wiped(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "20")
    with words.ProgressLine(is_quiet=False) as line:
        line.show(Progress(n_done=0, n_total=0, message="x" * 99))
        line.show(Progress(n_done=0, n_total=0, message="short"))
    written = capsys.readouterr()
    assert written.out == ""
    assert written.err == "\r" + "x" * 19 + "\rshort" + " " * 14 + "\r     \r"
    with words.ProgressLine(is_quiet=True) as line:
        line.show(Progress(n_done=0, n_total=0, message="x"))
    assert capsys.readouterr().err == ""


# --- measure --------------------------------------------------------------------------------


@pytest.fixture
def measured(tmp_path: Path, cells: Any) -> tuple[Path, Path, Path]:
    """Raw image, enhanced image and labels as files."""
    soft = np.clip((cells.image - 500.0) / 1000.0, 0, 1).astype(np.float32)
    files_ = tmp_path / "raw.tif", tmp_path / "after.tif", tmp_path / "labels.tif"
    for path, pixels in zip(files_, (cells.image, soft, cells.labels), strict=True):
        write(path, pixels, "YX", dtype="keep")
    return files_


def test_measure_prints_a_table_and_writes_it(measured: tuple[Path, Path, Path], tmp_path: Path) -> None:
    raw, after, labels = measured
    done = call("measure", raw, after, "--mask", labels, "--csv", tmp_path / "t.csv", "--diameter", 15)
    assert done.exit_code == 0, done.output
    assert "| raw.tif | – |" in done.stdout
    assert "after.tif: blob F1 1.000" in done.stdout
    assert (tmp_path / "t.csv").is_file() and (tmp_path / "t.csv.json").is_file()
    line = refused(call("measure", raw, after, "--mask", labels, "--csv", tmp_path / "t.csv", "-q"), 1)
    assert "exists already" in line and line.endswith("or give --overwrite")


def test_measure_for_programs_agrees_with_the_workflow(measured: tuple[Path, Path, Path], cells: Any) -> None:
    from napari_cellenhance.core.metrics import contrast_ratio

    raw, after, labels = measured
    told = json.loads(call("measure", raw, after, "--mask", labels, "--json").stdout)
    before, enhanced = told["contrast"]
    assert before["contrast_ratio"] == pytest.approx(contrast_ratio(cells.image, cells.labels > 0).value)
    assert before["fold"] is None and enhanced["fold"] > 1
    assert before["mask"] == "given"


def test_measure_marks_an_automatic_mask(measured: tuple[Path, Path, Path]) -> None:
    raw, after, _ = measured
    done = call("measure", raw, after)
    assert done.exit_code == 0
    assert "note: No mask was chosen" in done.stderr
    assert "--mask" in refused(call("measure", raw, after, "--diameter", 15), 2)
