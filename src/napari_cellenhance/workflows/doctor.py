"""Look at everything an enhancement needs, and say of each problem what to do about it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_cellenhance.core.errors import CellEnhanceError
from napari_cellenhance.workflows.progress import OnProgress, Progress, no_progress

__all__ = ["DoctorReport", "Finding", "run"]

PACKAGES = (
    "napari-cellenhance", "torch", "numpy", "scipy", "scikit-image", "tifffile", "pooch", "safetensors", "napari",
)  # fmt: skip
QT_BINDINGS = ("PyQt6", "PySide6", "PyQt5", "PySide2")
SELF_TEST_STEP = 1.0 / 255.0
"""Tiled and untiled results may differ by one step of an 8-bit image."""

_SELF_TEST_PX = 160
_SELF_TEST_TILE_PX = 64
_LITTLE_SPACE_BYTES = 200_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of the report.

    Parameters
    ----------
    topic : str
        Heading it belongs to.
    name, value : str
    advice : str
        Empty if all is well; else what is wrong and what to do about it.
    is_problem : bool
        False with an advice: worth knowing, but enhancing works.
    """

    topic: str
    name: str
    value: str
    advice: str = ""
    is_problem: bool = False

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "topic": self.topic, "name": self.name, "value": self.value, "advice": self.advice,
            "is_problem": self.is_problem,
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorReport:
    """All findings, in reading order."""

    findings: tuple[Finding, ...]

    @property
    def problems(self) -> tuple[Finding, ...]:
        """Findings that keep something from working."""
        return tuple(finding for finding in self.findings if finding.is_problem)

    @property
    def is_healthy(self) -> bool:
        """Whether there is no problem."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"is_healthy": self.is_healthy, "findings": [finding.to_dict() for finding in self.findings]}


def run(*, device: str = "auto", precision: str = "auto", on_progress: OnProgress = no_progress) -> DoctorReport:
    """Examine versions, processor, model files, folders and Qt, and enhance a synthetic image.

    Parameters
    ----------
    device, precision : str
        As for an enhancement.
    on_progress : callable
        Called before each part.
    """
    parts: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
        ("versions", _versions),
        ("devices", lambda: _devices(device, precision)),
        ("folders", _folders),
        ("models", _models),
        ("window", _window),
        ("self-test", lambda: _self_test(device, precision)),
    ]
    findings: list[Finding] = []
    for number, (title, part) in enumerate(parts):
        on_progress(Progress(n_done=number, n_total=len(parts), message=f"Looking at the {title}"))
        findings.extend(part())
    return DoctorReport(findings=tuple(findings))


def _versions() -> Iterator[Finding]:
    yield Finding(topic="Versions", name="Python", value=platform.python_version())
    yield Finding(topic="Versions", name="System", value=f"{platform.platform()}, {platform.machine()}")
    yield Finding(topic="Versions", name="Processor cores", value=str(os.cpu_count()))
    for package in PACKAGES:
        yield _version(package)


def _version(package: str) -> Finding:
    try:
        value = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        if package in ("napari", "napari-cellenhance"):
            advice = (
                "Only needed for the window: pip install 'napari[all]'."
                if package == "napari"
                else "Runs from a folder without being installed; in a checkout, run 'pip install -e .'."
            )
            return Finding(topic="Versions", name=package, value="not installed", advice=advice)
        return Finding(
            topic="Versions", name=package, value="not installed", is_problem=True,
            advice=f"{package} is missing; run 'pip install napari-cellenhance' again.",
        )  # fmt: skip
    return Finding(topic="Versions", name=package, value=value)


def _devices(device: str, precision: str) -> Iterator[Finding]:
    try:
        from napari_cellenhance.core.device import bf16_verdict, device_refusal
        from napari_cellenhance.workflows.device_check import choose_checked_device
    except (ImportError, OSError) as error:
        # Windows raises OSError where a library of PyTorch cannot be loaded.
        yield Finding(
            topic="Devices", name="PyTorch", value="cannot be loaded", is_problem=True,
            advice=f"PyTorch does not start ({_one_line(error)}); install it again as pytorch.org tells.",
        )  # fmt: skip
        return
    for candidate in ("cuda", "mps", "openvino"):
        refusal = device_refusal(candidate)
        yield Finding(topic="Devices", name=candidate, value=refusal or "usable")
    verdict = bf16_verdict()
    yield Finding(
        topic="Devices", name="CPU bf16", value=f"{'used' if verdict.is_fast else 'not used'}: {verdict.reason}"
    )
    yield _memory()
    try:
        choice = choose_checked_device(device, precision)
    except CellEnhanceError as error:
        yield Finding(topic="Devices", name="chosen", value="none", advice=_sentence(error), is_problem=True)
        return
    advice = _sentence(choice.note) if choice.is_fallback else ""
    yield Finding(topic="Devices", name="chosen", value=choice.note, advice=advice, is_problem=choice.is_fallback)


def _memory() -> Finding:
    from napari_cellenhance.core.memory import KEEP_VARIABLE, can_keep_memory, is_keeping_memory

    if is_keeping_memory():
        value = "kept between layers"
    elif can_keep_memory():
        value = f"handed back after every layer, which is slower ({KEEP_VARIABLE} is 0, or Python called this)"
    else:
        value = "left to this system's allocator"
    return Finding(topic="Devices", name="freed memory", value=value)


def _folders() -> Iterator[Finding]:
    from napari_cellenhance.zoo.cache import cache_dir, user_models_dir

    for name, folder in (("cache", cache_dir()), ("own models", user_models_dir())):
        there = _nearest_existing(folder)
        if not (there.is_dir() and os.access(there, os.W_OK)):
            yield Finding(
                topic="Folders", name=name, value=str(folder), is_problem=True,
                advice=f"{there} cannot be written; set the environment variable CELLENHANCE_CACHE to another folder.",
            )  # fmt: skip
            continue
        free = shutil.disk_usage(there).free
        advice = "Little space is left there; free some." if free < _LITTLE_SPACE_BYTES else ""
        yield Finding(
            topic="Folders", name=name, value=f"{folder} ({free / 1e9:.1f} GB free)", advice=advice,
            is_problem=bool(advice),
        )  # fmt: skip


def _nearest_existing(folder: Path) -> Path:
    for candidate in (folder, *folder.parents):
        if candidate.exists():
            return candidate
    return folder


def _models() -> Iterator[Finding]:
    from napari_cellenhance.zoo.cache import find_local
    from napari_cellenhance.zoo.manifest import load_manifest

    try:
        manifest = load_manifest()
    except CellEnhanceError as error:
        yield Finding(topic="Models", name="manifest", value="damaged", advice=_sentence(error), is_problem=True)
        return
    address = manifest.base_url or "not set"
    yield Finding(topic="Models", name="download address", value=address)
    for card in manifest.models:
        path = find_local(card.file)
        if path is not None:
            yield Finding(topic="Models", name=card.id, value=f"{card.version}, verified: {path}")
            continue
        # Only a model that should be here is a problem; any other is fetched when it is asked for.
        is_problem = card.bundled or card.file.url is None
        advice = (
            "Its weights are missing or damaged; "
            + ("install napari-cellenhance again." if card.bundled else "put the file back, or train it again.")
            if is_problem
            else f"Fetch it with 'cellenhance models fetch {card.id}'."
        )
        yield Finding(
            topic="Models", name=card.id, value=f"{card.version}, not on this computer", advice=advice,
            is_problem=is_problem,
        )  # fmt: skip
    for number, problem in enumerate(manifest.problems, start=1):
        yield Finding(
            topic="Models", name=f"own model card {number}", value="damaged", advice=_sentence(problem), is_problem=True
        )


def _window() -> Iterator[Finding]:
    # Looked for, not imported: a broken binding can end the whole program.
    found = [name for name in QT_BINDINGS if importlib.util.find_spec(name) is not None]
    if not found:
        advice = "Only needed for the window: pip install 'napari[all]'."
        yield Finding(topic="Window", name="Qt binding", value="none", advice=advice)
        return
    advice = "Several Qt bindings are installed, which can clash; keep one." if len(found) > 1 else ""
    yield Finding(topic="Window", name="Qt binding", value=", ".join(found), advice=advice)


def _self_test(device: str, precision: str) -> Iterator[Finding]:
    try:
        filter_id = _filter_to_test()
        yield _examine(filter_id, device, precision)
        yield _write_and_read()
    except (CellEnhanceError, ImportError, OSError) as error:
        yield Finding(topic="Self-test", name="run", value="failed", advice=_sentence(error), is_problem=True)


def _filter_to_test() -> str:
    from napari_cellenhance.zoo.cache import find_local
    from napari_cellenhance.zoo.manifest import list_models

    for card in list_models():
        if find_local(card.file) is not None:
            return card.id
    return "dog"


def _synthetic_cells() -> Any:
    """Bright round objects on a sloping ground with noise; shape (160, 160), uint16."""
    import numpy as np

    rng = np.random.default_rng(0)
    y, x = np.mgrid[:_SELF_TEST_PX, :_SELF_TEST_PX].astype(np.float64)
    image = 200.0 + 0.8 * x + rng.normal(0.0, 12.0, y.shape)
    for cy, cx in rng.uniform(10, _SELF_TEST_PX - 10, (20, 2)):
        image += 500.0 * np.exp(-(((y - cy) ** 2 + (x - cx) ** 2) / (2 * 5.0**2)))
    return image.clip(0, 65535).astype(np.uint16)


def _examine(filter_id: str, device: str, precision: str) -> Finding:
    """Enhance one image whole and in tiles; compare."""
    import numpy as np

    from napari_cellenhance.workflows import catalog, enhance
    from napari_cellenhance.workflows.requests import EnhanceRequest

    image = _synthetic_cells()
    opened = catalog.open_enhancer(filter_id, device, precision)
    whole, tiled = (
        enhance.apply(EnhanceRequest(image=image, axes="YX", filter_id=filter_id, tile_px=tile_px), opened).image
        for tile_px in (4 * _SELF_TEST_PX, _SELF_TEST_TILE_PX)
    )
    complaint = examine_results(whole, tiled)
    difference = float(np.abs(whole - tiled).max())
    value = f"{filter_id} on {opened.choice.device} ({opened.choice.precision}): tiled − untiled ≤ {difference:.5f}"
    advice = "" if not complaint else f"{complaint}; try --device cpu --precision float32, and report this, please."
    return Finding(topic="Self-test", name="enhance", value=value, advice=advice, is_problem=bool(complaint))


def examine_results(whole: Any, tiled: Any) -> str:
    """Say what is wrong with two enhancements of one image, or return an empty string.

    Parameters
    ----------
    whole, tiled : ndarray of shape (Y, X)
        Expected: finite, in [0, 1], not of one single value, and alike to 1/255.
    """
    import numpy as np

    for name, image in (("untiled", whole), ("tiled", tiled)):
        if not np.isfinite(image).all():
            return f"The {name} result holds values that are no numbers"
        if image.min() < 0.0 or image.max() > 1.0:
            return f"The {name} result runs from {image.min():.3g} to {image.max():.3g}, not from 0 to 1"
        if image.min() == image.max():
            return f"The {name} result is of one single value"
    difference = float(np.abs(whole - tiled).max())
    if difference > SELF_TEST_STEP:
        return f"Tiled and untiled results differ by {difference:.4f}, more than {SELF_TEST_STEP:.4f}"
    return ""


def _write_and_read() -> Finding:
    import numpy as np

    from napari_cellenhance.io.images import read, write

    image = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "test.ome.tif", image, "YX", pixel_size_um={"Y": 0.5, "X": 0.5})
        back = read(path)
    is_same = bool(np.array_equal(back.image, image)) and back.axes == "YX" and back.pixel_size_um["X"] == 0.5
    advice = "" if is_same else "A written OME-TIFF reads back differently; run 'pip install -U tifffile'."
    value = "identical" if is_same else "different"
    return Finding(topic="Self-test", name="write and read back", value=value, advice=advice, is_problem=not is_same)


def _one_line(error: object) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _sentence(text: object) -> str:
    line = _one_line(text)
    return f"{line[0].upper()}{line[1:]}" + ("" if line.endswith((".", "!", "?")) else ".")
