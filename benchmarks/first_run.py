"""The first minutes of a newcomer: seconds and megabytes from `git clone` to the enhanced picture.

    python benchmarks/first_run.py                 # words, window, dock, preview; a display, or scripts/with_display.sh
    python benchmarks/first_run.py --fresh         # clone, both commands of the README before it; some minutes
    python benchmarks/first_run.py --json FILE

``--fresh`` clones this repository into a folder of its own and runs ``make demo`` there as a newcomer does; what pip
downloads depends on the connection and on what it has kept. All else is measured ``--rounds`` times, each time in a
process of its own, medians:

words      ``cellenhance --help``; the rival is ``python -c "import torch"``
window     from the start of Python to a napari window that is shown, without this plugin; then, in the same process,
dock       from asking for the dock *Enhance cells* until it stands in the window
preview    from ticking *Live preview* on the sample to the first enhanced picture: ticked at once, when nothing is
           loaded yet, and in another process 3 s after the dock stood there (it imports torch meanwhile)
again      from moving the strength to the next one
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PLUGIN, DOCK = "napari-cellenhance", "Enhance cells"
_LONGEST_S = 300.0
_WAITS_S = {0.0: "clicked at once", 3.0: "clicked 3 s after opening the dock"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fresh", action="store_true", help="clone and set up in a new folder, too")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    parser.add_argument("--one", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one is not None:
        print(json.dumps(_in_the_window(options.one)))
        return
    rows = _fresh() if options.fresh else []
    rows += _warm(options.rounds)
    print("| step | seconds | MB |\n|---|---:|---:|")
    for row in rows:
        print(f"| {row['step']} | {row['seconds']:.2f} | {row.get('mb', '')} |")
    if options.json:
        options.json.write_text(json.dumps({"rounds": options.rounds, "rows": rows}, indent=1) + "\n", encoding="utf-8")


def _fresh() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="first-run-") as scratch:
        folder = Path(scratch) / "napari-cellenhance"
        rows = [_step("git clone", ["git", "clone", "--quiet", "--no-local", str(ROOT), str(folder)], ROOT, folder)]
        environment = folder / ".venv"
        rows.append(_step("environment (pip)", ["make", ".venv/.demo"], folder, environment))
        rows.append(_step("make demo", ["make", "demo"], folder, folder / "out"))
        rows.append(_step("what the tests need besides", ["make", ".venv/.dev"], folder, environment))
    return rows


def _step(name: str, command: list[str], place: Path, made: Path) -> dict[str, Any]:
    before = _megabytes(made)
    begun = time.perf_counter()
    subprocess.run(command, cwd=place, check=True, stdout=subprocess.DEVNULL)
    return {"step": name, "seconds": time.perf_counter() - begun, "mb": _megabytes(made) - before}


def _megabytes(folder: Path) -> int:
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()) if folder.exists() else ()
    return round(sum(path.stat().st_size for path in files) / 1e6)


def _warm(n_rounds: int) -> list[dict[str, Any]]:
    """Medians; A B A B, after a round that does not count."""
    script = Path(sys.executable).with_name("cellenhance")
    times: dict[str, list[float]] = {}
    for i in range(n_rounds + 1):
        found = {
            "`cellenhance --help`": _seconds([str(script), "--help"]),
            '`python -c "import torch"`': _seconds([sys.executable, "-c", "import torch"]),
        }
        for wait_s in _WAITS_S:
            found |= _in_a_process(wait_s)
        for name, seconds in found.items():
            times.setdefault(name, []).extend([seconds] if i else [])
    return [{"step": name, "seconds": median(values)} for name, values in times.items()]


def _in_a_process(wait_s: float) -> dict[str, float]:
    command = [sys.executable, __file__, "--one", str(wait_s)]
    ended = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    found: dict[str, float] = json.loads(ended.stdout.splitlines()[-1])
    return found


def _seconds(command: list[str]) -> float:
    begun = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def _in_the_window(wait_s: float) -> dict[str, float]:
    """In this process: napari, the dock, the first preview after a while, the next one."""
    begun = time.perf_counter()
    import napari

    viewer = napari.Viewer()
    _until(lambda: viewer.window._qt_window.isVisible())
    found = {"napari's window": time.perf_counter() - begun}
    viewer.open_sample(PLUGIN, "nuclei")
    _until(lambda: len(viewer.layers) == 1)
    begun = time.perf_counter()
    dock, panel = viewer.window.add_plugin_dock_widget(PLUGIN, DOCK)
    _until(lambda: dock.isVisible() and panel.isVisible())
    found["the dock"] = time.perf_counter() - begun
    _rest(wait_s)  # a person looks for the box
    begun = time.perf_counter()
    panel.badge.switch.setChecked(True)
    _until(lambda: len(viewer.layers) == 2 and panel.badge.badge.text().endswith("s"))
    found[f"the first preview, {_WAITS_S[wait_s]}"] = time.perf_counter() - begun
    _rest(1.0)
    drawn: list[float] = []
    layer = viewer.layers[-1]
    layer.events.data.connect(lambda: drawn.append(time.perf_counter()))
    begun = time.perf_counter()
    panel.strength.set_value(0.6 * panel.strength.number.maximum())
    _until(lambda: bool(drawn))
    found["the next one, as the strength moves"] = drawn[0] - begun
    panel.badge.switch.setChecked(False)
    viewer.close()
    return found


def _until(condition: Callable[[], bool]) -> None:
    from qtpy.QtWidgets import QApplication

    end = time.monotonic() + _LONGEST_S
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("the window did not get there in time")
        QApplication.processEvents()
        time.sleep(0.002)


def _rest(seconds: float) -> None:
    end = time.monotonic() + seconds
    _until(lambda: time.monotonic() > end)


if __name__ == "__main__":
    main()
