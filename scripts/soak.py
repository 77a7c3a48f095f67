"""Use the docks for hours as an impatient person would, and see that nothing is left over.

Each run picks a dock, a layer and settings by chance, presses Run (once, or twice), and may then cancel, close the
dock, delete the layer, or press on elsewhere. At the end: memory of the second half against the first, threads,
dialogs, errors nobody caught, removed layers and closed docks that something still holds. Needs a display; without one
use

    make soak

The picture itself is drawn only with ``--draw``, which takes longer where there is no graphics card.

It is repeatable: the same ``--seed`` draws the same runs, but how far each comes depends on the machine.
"""

from __future__ import annotations

import argparse
import faulthandler
import functools
import gc
import json
import logging
import os
import random
import signal
import sys
import tempfile
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

PLUGIN = "napari-cellenhance"
DOCKS = ("Enhance cells", "Denoise", "Restore like these", "Keep only…", "Teach it your cells", "Batch")
INTERRUPTIONS = ("none", "none", "none", "cancel", "close dock", "delete layer", "double click", "move on")
WAIT_S = 120.0
WARM_UP = 0.2
"""Share of the runs that pay for what is loaded once: networks, kernels, fonts."""
ALLOWED_MB = 60.0
"""How much more memory the second half may hold than the first; freed memory is not given back at once."""


class Alarms(logging.Handler):
    """Everything that ought not to happen, from whatever side it comes."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []
        logging.getLogger().addHandler(self)
        sys.excepthook = self._on_exception
        sys.unraisablehook = lambda told: self.add("unraisable", told.exc_value)
        threading.excepthook = lambda told: self.add("in a thread", told.exc_value)
        from napari.utils.notifications import notification_manager

        notification_manager.notification_ready.connect(self._on_notification)

    def _on_exception(self, kind: type[BaseException], error: BaseException, trace: Any) -> None:
        self.add("exception", error)
        sys.__excepthook__(kind, error, trace)

    def add(self, kind: str, what: Any) -> None:
        """Note it."""
        self.found.append(f"{kind}: {what!r}")

    def emit(self, record: logging.LogRecord) -> None:
        """Note what was logged as an error, with its reason."""
        reason = record.exc_info[1] if record.exc_info else ""
        self.add("log", f"{record.getMessage()} {reason!r}")

    def _on_notification(self, notification: Any) -> None:
        if str(notification.severity) in ("error", "warning"):
            self.add("notification", notification.message)

    def look_for_dialogs(self) -> Any:
        """Close every dialog that comes up, and note it; while the clock given back is kept. Needs an application."""
        from qtpy.QtCore import QTimer

        clock = QTimer()
        clock.timeout.connect(self._close_dialog)
        clock.start(250)
        return clock

    def _close_dialog(self) -> None:
        from qtpy.QtWidgets import QApplication

        if (dialog := QApplication.activeModalWidget()) is not None:
            self.add("dialog", f"{type(dialog).__name__} {dialog.windowTitle()}")
            dialog.close()  # it would wait for a person


class Kept:
    """Layers and docks that are gone from the window, and whether they are gone from memory."""

    def __init__(self, viewer: Any) -> None:
        self._seen: list[weakref.ref[Any]] = []
        viewer.layers.events.inserted.connect(lambda event: self.follow(event.value))

    def follow(self, thing: Any) -> None:
        """Remember, without holding it."""
        self._seen.append(weakref.ref(thing))

    def alive(self) -> Counter[str]:
        """How many are still in memory, by kind; call it when all of them ought to be gone."""
        gc.collect()
        return Counter(type(thing).__name__ for ref in self._seen if (thing := ref()) is not None)


def rss_mb() -> float:
    """Memory of this process that is in use, in MB."""
    with open("/proc/self/statm", encoding="ascii") as stream:
        return int(stream.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def spin(seconds: float = 0.0, until: Callable[[], bool] = lambda: False) -> bool:
    """Let the window work for a while; whether the condition came true.

    In a loop of Qt's own, as in napari: ``processEvents`` outside of one never deletes what was put off for later, and
    every layer and every dock ever closed would stay in memory.
    """
    from qtpy.QtCore import QEventLoop, QTimer

    loop, clock, end = QEventLoop(), QTimer(), time.monotonic() + seconds

    def look() -> None:
        if until() or time.monotonic() >= end:
            loop.quit()

    clock.timeout.connect(look)
    clock.start(10)
    loop.exec()
    return until()


def lazy(stack: Any) -> Any:
    """Read plane by plane."""
    import dask.array as da

    return da.from_array(stack, chunks=(1, *stack.shape[1:]))  # type: ignore[no-untyped-call]


def make_layer(viewer: Any, dice: random.Random, number: int) -> Any:
    """Add an image of some kind: plane, stack, movie, colours, lazy, odd pixels."""
    rng = np.random.default_rng(dice.randrange(2**31))
    side = dice.choice([17, 48, 64, 96, 131])
    y, x = np.mgrid[:side, :side]
    plane = 200 + 900 * (np.sin(y / 5) * np.cos(x / 6) > 0.5) + rng.normal(0, 60, (side, side))
    kind = dice.choice(["plane", "plane", "z", "t", "channels", "rgb", "lazy", "labels", "nan", "flat", "big endian"])
    name = f"{kind} {number}"
    if kind in ("z", "t", "lazy"):
        stack = np.stack([plane + rng.normal(0, 30, plane.shape) for _ in range(4)]).clip(0).astype(np.uint16)
        data: Any = lazy(stack) if kind == "lazy" else stack
        return viewer.add_image(data, name=name, axis_labels=("t" if kind == "t" else "z", "y", "x"))
    if kind == "channels":
        return viewer.add_image(
            np.stack([plane, plane[::-1]]).astype(np.float32), name=name, axis_labels=("c", "y", "x")
        )
    if kind == "rgb":
        return viewer.add_image(np.stack([plane / 5] * 3, -1).clip(0, 255).astype(np.uint8), name=name, rgb=True)
    if kind == "nan":
        plane[3:6, 4:9] = np.nan
    if kind == "flat":
        plane[:] = 7
    layer = viewer.add_image(plane.astype(">u2" if kind == "big endian" else np.float32), name=name)
    if kind == "labels":
        viewer.add_labels((plane > 700).astype(np.int32) + (plane > 900), name=f"painted {number}")
    return layer


def open_dock(viewer: Any, title: str) -> tuple[Any, Any]:
    """Dock and panel, from napari's own door."""
    dock, panel = viewer.window.add_plugin_dock_widget(PLUGIN, title)
    return dock, panel


def prepare(title: str, panel: Any, layer: Any, dice: random.Random, plate: Path) -> Any:
    """Fill in a dock by chance; the part with its Run button."""
    if title == "Enhance cells":
        from napari_cellenhance.workflows.catalog import list_filters

        panel.layers.choose(layer)
        infos = list_filters()
        panel.filters.choose(dice.choice(infos).id)
        info = panel.filters.info().strength
        panel.strength.set_value(dice.uniform(info.minimum, info.maximum))
        panel.outputs.wants_labels.setChecked(dice.random() < 0.3)
        panel.outputs.wants_points.setChecked(dice.random() < 0.3)
        panel.scope.setCurrentIndex(dice.randrange(panel.scope.count()))
        panel.badge.switch.setChecked(dice.random() < 0.4)
        return panel
    if title == "Batch":
        panel.images.source.line.setText(str(plate / "*.tif"))
        panel.target.line.setText(str(plate / f"out{dice.randrange(3)}"))
        panel.recipe.filters.choose(dice.choice(["gamma", "gaussian", "dog", "clahe"]))
        panel.recipe.outputs.wants_labels.setChecked(dice.random() < 0.5)
        panel.overwrite.setChecked(dice.random() < 0.5)
        return panel
    if title == "Teach it your cells":
        panel.tabs.setCurrentWidget(panel.tabs.widget(panel.tabs.count() - 1))
        panel.segment.picker.choose(layer)
        panel.segment.model.setCurrentIndex(dice.randrange(max(1, panel.segment.model.count())))
        panel.segment.min_size.setValue(dice.randrange(1, 60))
        return panel.segment
    for form in panel.images.forms():
        panel.images.check(form.layer, is_checked=False)
    panel.images.check(layer)
    panel.now.model.setCurrentIndex(dice.randrange(max(1, panel.now.model.count())))
    panel.now.badge.switch.setChecked(dice.random() < 0.4)
    return panel.now


def interrupt(how: str, viewer: Any, dock: Any, part: Any, layer: Any, dice: random.Random) -> bool:
    """Do something impatient; whether the dock is closed now."""
    if how != "none":
        spin(dice.uniform(0, 0.4))
    if how == "double click":
        part.foot.run.click()
        part.foot.run.click()
    elif how == "cancel":
        part.foot.cancel.click()
    elif how == "delete layer" and layer in viewer.layers:
        viewer.layers.remove(layer)
    elif how == "move on":
        viewer.dims.set_current_step(0, 1)
        viewer.camera.zoom *= dice.uniform(0.5, 2)
        if layer in viewer.layers:
            layer.name += " renamed"
    elif how == "close dock":
        viewer.window.remove_dock_widget(dock)
        return True
    return False


def make_separator() -> None:
    """Store a tiny network for the dock that keeps one kind of object: none is shipped."""
    import torch

    from napari_cellenhance.core.models.semantic_unet import SemanticUNet
    from napari_cellenhance.zoo.weights import save_user_model

    torch.manual_seed(0)
    card = {
        "id": "soak-separator", "title": "Separator of the soak", "summary": "", "version": "1.0", "recipe": "semantic",
        "architecture": {"name": "semantic-unet", "width": 2}, "license": "CC0-1.0",
        "normalization": {"name": "p99"}, "strength": {"default": 1, "maximum": 1},
    }  # fmt: skip
    save_user_model(SemanticUNet(width=2).state_dict(), card)


def threads_of_ours() -> list[str]:
    """Names of threads that are not Python's or the machine's own."""
    return [t.name for t in threading.enumerate() if "cellenhance" in t.name]


def leave_undrawn() -> None:
    """Let the canvas be, and do all else."""
    from vispy.scene import SceneCanvas

    SceneCanvas._draw_scene = lambda *_, **__: None


def draw_in_its_own_context() -> None:
    """Let napari delete what a removed layer had on the graphics card in the OpenGL context of its canvas.

    napari 0.9.2 does so in whatever context is current, often the one in which Qt puts the window together; Mesa's
    software renderer then ends in a segmentation fault at one of the next pictures, with no plugin at work.
    """
    from napari._vispy.canvas import VispyCanvas

    original = VispyCanvas._clean_and_update_scenegraph

    def in_its_context(canvas: Any) -> None:
        canvas._scene_canvas.set_current()
        original(canvas)

    VispyCanvas._clean_and_update_scenegraph = in_its_context


def soak(n_runs: int, seed: int, plate: Path, say: Callable[[str], None], *, draws: bool = False) -> dict[str, Any]:
    """Do the runs; numbers and complaints."""
    import napari

    from napari_cellenhance.widgets import _worker

    (draw_in_its_own_context if draws else leave_undrawn)()
    dice, alarms = random.Random(seed), Alarms()
    viewer = napari.Viewer(show=True)
    kept, clock = Kept(viewer), alarms.look_for_dialogs()
    make_separator()
    docks: dict[str, tuple[Any, Any]] = {}
    memory: list[float] = []
    said: Counter[str] = Counter()
    stuck: list[str] = []
    started = time.monotonic()
    stop = threading.Event()
    for wish in (signal.SIGINT, signal.SIGTERM):
        signal.signal(wish, lambda *_: stop.set())  # ends early, with a report
    for number in range(n_runs):
        if stop.is_set():
            break
        while len(viewer.layers) > dice.randrange(4):
            viewer.layers.pop(0)
        title = DOCKS[number % len(DOCKS)] if number < len(DOCKS) else dice.choice(DOCKS)
        how = dice.choice(INTERRUPTIONS)
        layer = make_layer(viewer, dice, number)
        if title not in docks:
            docks[title] = open_dock(viewer, title)
            kept.follow(docks[title][1])
        dock, panel = docks[title]
        say(f"{number + 1:4d}  {title}, {layer.name} {layer.data.shape}, {how}")
        part = prepare(title, panel, layer, dice, plate)
        spin(2.0, part.foot.run.isEnabled)
        part.foot.run.click()
        if interrupt(how, viewer, dock, part, layer, dice):
            del docks[title]
        if not spin(WAIT_S, lambda: not _worker.is_busy()):
            stuck.append(f"run {number}: {title}, {layer.name}, {how}")
            break
        spin(0.05)
        message = part.foot.message.text() if title in docks else "closed"
        if "unexpected" in message:
            alarms.add("message", f"{title}, {layer.name}: {message}")
        said[f"{title}: {how}"] += 1
        dock = panel = part = layer = None
        memory.append(rss_mb())
        say(f"      {memory[-1]:.0f} MB, {message[:90]!r}")
    viewer.layers.clear()
    for dock, _ in docks.values():
        viewer.window.remove_dock_widget(dock)
    docks.clear()
    dock = _ = None
    spin(10.0, lambda: not threads_of_ours())
    left = threads_of_ours()
    spin(1.0)
    alive = kept.alive()
    clock.stop()
    viewer.close()
    spin(0.2)
    warm = memory[int(WARM_UP * len(memory)) :]
    half = len(warm) // 2
    first, second = float(np.median(warm[:half] or [0])), float(np.median(warm[half:] or [0]))
    return {
        "n_runs": len(memory), "seconds": round(time.monotonic() - started, 1), "first_half_mb": round(first, 1),
        "second_half_mb": round(second, 1), "last_mb": round(memory[-1], 1) if memory else 0, "stuck": stuck,
        "threads_left": left, "still_in_memory": dict(alive), "alarms": alarms.found,
        "runs": dict(sorted(said.items())), "memory_mb": [round(mb) for mb in memory],
    }  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Soak; 1 where something is left over."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--report", type=Path, help="JSON file for the numbers")
    parser.add_argument("--draw", action="store_true", help="draw the picture too")
    parser.add_argument("--quiet", action="store_true", help="only the numbers at the end")
    options = parser.parse_args(arguments)
    faulthandler.enable()
    with tempfile.TemporaryDirectory(prefix="cellenhance-soak-") as folder:
        place = Path(folder)
        for variable in ("CELLENHANCE_CACHE", "CELLENHANCE_MODELS"):
            os.environ[variable] = str(place / variable.lower())
        os.environ.setdefault("NAPARI_CONFIG", str(place / "napari" / "settings.yaml"))
        plate = place / "plate"
        plate.mkdir()
        import tifffile

        for i in range(5):
            picture = np.random.default_rng(i).integers(0, 4000, (64, 70), dtype=np.uint16)
            tifffile.imwrite(plate / f"{i}.tif", picture)
        say: Callable[[str], None] = (lambda _: None) if options.quiet else functools.partial(print, flush=True)
        report = soak(options.runs, options.seed, plate, say, draws=options.draw)
    if options.report:
        options.report.write_text(json.dumps(report, indent=2), encoding="utf-8")
    print(json.dumps(report, indent=2))
    grown = report["second_half_mb"] - report["first_half_mb"]
    leftovers = ("alarms", "stuck", "threads_left", "still_in_memory")
    is_good = grown < ALLOWED_MB and not any(report[name] for name in leftovers)
    print("nothing is left over" if is_good else "SOMETHING IS LEFT OVER, see above")
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
