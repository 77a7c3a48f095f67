"""The jobs that run elsewhere call what there is here: no job is found broken a week later."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
SCRIPT = ROOT / "scripts" / "vary_dependencies.sh"

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="the jobs run on Linux, their scripts need bash and make"
)


def _read(name: str) -> dict[Any, Any]:
    path = ROOT / ".github" / "workflows" / name
    loaded: dict[Any, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return loaded


def _corners(job: dict[str, Any]) -> list[dict[str, str]]:
    """Combinations of a matrix: the product of its lists, and what is included besides."""
    matrix = dict(job.get("strategy", {}).get("matrix", {}))
    extra = matrix.pop("include", [])
    corners: list[dict[str, str]] = [{}]
    for name, values in matrix.items():
        corners = [{**corner, name: value} for corner in corners for value in values]
    return [*corners, *extra]


def _commands() -> list[str]:
    """Every line that a job runs, with the values of its matrix put in; and those of ``.ci/run``."""
    lines = [
        line for line in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines() if line.startswith("make")
    ]
    for path in WORKFLOWS:
        for job in _read(path.name)["jobs"].values():
            for corner in _corners(job):
                for step in job["steps"]:
                    text = step.get("run", "")
                    for name, value in corner.items():
                        text = text.replace(f"${{{{ matrix.{name} }}}}", value)
                    lines += [line.strip() for line in text.splitlines() if line.strip()]
    return sorted(set(lines))


def test_workflows_are_whole() -> None:
    assert {path.name for path in WORKFLOWS} == {"ci.yml", "weekly.yml"}
    for path in WORKFLOWS:
        content = _read(path.name)
        assert content["name"]
        assert True in content  # the word "on", as YAML 1.1 reads it
        assert content["permissions"] == {"contents": "read"}
        for job in content["jobs"].values():
            assert job["runs-on"]
            assert job["timeout-minutes"] <= 120
            for step in job["steps"]:
                assert ("uses" in step) != ("run" in step)
                assert "uses" not in step or re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step["uses"])


def test_a_pull_request_runs_what_everyone_runs() -> None:
    ci = _read("ci.yml")
    assert "pull_request" in ci[True]
    assert [step["run"] for step in ci["jobs"]["ci"]["steps"] if "run" in step] == ["bash .ci/run"]


def test_the_weekly_matrix_has_every_corner() -> None:
    weekly = _read("weekly.yml")
    assert weekly[True]["schedule"]
    corners = _corners(weekly["jobs"]["tests"])
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pythons = {c.rsplit(" ", 1)[1] for c in project["classifiers"] if re.search(r":: 3\.\d+$", c)}
    assert {(c["python"], c["qt"]) for c in corners} >= {(p, q) for p in pythons for q in ("pyqt6", "pyside6")}
    assert {c["dependencies"] for c in corners} == {"lowest", "newest", "pre"}
    assert {c["async"] for c in corners} == {"0", "1"}
    lowest = {c["python"] for c in corners if c["dependencies"] == "lowest"}
    assert lowest == {min(pythons, key=lambda version: int(version.split(".")[1]))}


@pytest.mark.parametrize("command", _commands())
def test_commands_of_the_jobs_exist(command: str) -> None:
    assert "${{" not in command
    program, *arguments = command.split()
    if program == "make":
        target = next(a for a in arguments if "=" not in a)
        done = subprocess.run(
            ["make", "--dry-run", "--always-make", target], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    elif program == "bash":
        assert (ROOT / arguments[0]).is_file()
    else:
        assert program == ".venv/bin/python"
        assert arguments[:2] == ["-m", "pip"]


def test_options_given_to_the_soak_exist() -> None:
    (command,) = (command for command in _commands() if command.startswith("make soak"))
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "soak.py"), "--help"], capture_output=True, text=True, check=True
    )
    options = re.findall(r"--[a-z]+", command)
    assert options
    assert set(options) <= set(re.findall(r"--[a-z]+", done.stdout))


def _vary(folder: Path, *wishes: str) -> tuple[subprocess.CompletedProcess[str], str]:
    """Call the script with an environment that only notes what it is asked for."""
    bin_folder = folder / "bin"
    bin_folder.mkdir(exist_ok=True)
    note = folder / "note"
    for name in ("python", "uv"):
        # Of uv, the requirements too: they are in a file of the script's own, gone when it ends.
        tells = f'for word; do case $word in */tmp.*) cat "$word" >>"{note}";; esac; done\n'
        (bin_folder / name).write_text(f'#!/bin/sh\necho "{name} $*" >>"{note}"\n{tells}', encoding="utf-8")
        (bin_folder / name).chmod(0o755)
    done = subprocess.run(["bash", str(SCRIPT), str(folder), *wishes], capture_output=True, text=True, check=False)
    return done, note.read_text(encoding="utf-8") if note.exists() else ""


def test_the_lowest_versions_are_those_of_the_package(tmp_path: Path) -> None:
    done, asked = _vary(tmp_path, "lowest")
    assert done.returncode == 0, done.stderr
    assert "--resolution lowest-direct" in asked
    (uv,) = (line for line in asked.splitlines() if line.startswith("uv "))
    assert "--upgrade" in uv.split()  # else uv keeps the newest ones that `make test` installed before
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {line for line in project["dependencies"] if not line.startswith("torch")}
    for extra in ("cluster", "evaluate", "onnx", "openvino", "parquet"):
        wanted |= set(project["optional-dependencies"][extra])
    assert wanted == wanted & set(asked.splitlines())
    assert not [line for line in asked.splitlines() if line.startswith("torch")]


def test_pre_releases_and_the_other_qt_are_asked_for(tmp_path: Path) -> None:
    _, asked = _vary(tmp_path, "pre", "pyside6")
    lines = asked.splitlines()
    assert "--pre" in lines[0]
    assert any("napari[pyside6]" in line and "PySide6!=6.12.0; python_version < '3.12'" in line for line in lines)
    assert any("uninstall" in line and "PyQt6" in line for line in lines)


def test_an_unknown_wish_is_told(tmp_path: Path) -> None:
    done, _ = _vary(tmp_path, "oldest")
    assert done.returncode == 2
    assert "unknown wish 'oldest'" in done.stderr
    assert "lowest|newest|pre|pyside6" in done.stderr


def test_shell_scripts_can_be_read_by_bash() -> None:
    bash = shutil.which("bash")
    assert bash is not None
    for path in (*(ROOT / "scripts").glob("*.sh"), ROOT / ".ci" / "run"):
        done = subprocess.run([bash, "-n", str(path)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
