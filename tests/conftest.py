"""The walls of every test: own folders, no network beyond this computer, no window left open."""

from __future__ import annotations

import atexit
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

# Before napari or torch is imported: both read these once.
_SESSION_FOLDER = tempfile.mkdtemp(prefix="cellenhance-tests-")
atexit.register(shutil.rmtree, _SESSION_FOLDER, ignore_errors=True)
os.environ["NAPARI_CONFIG"] = os.path.join(_SESSION_FOLDER, "napari", "settings.yaml")
os.environ["NAPARI_ENSURE_PLUGIN_MAIN_THREAD"] = "1"
os.environ["MPLBACKEND"] = "Agg"
# One thread here and in the programs that tests start: the last bits of a result depend on the number of threads.
os.environ["OMP_NUM_THREADS"] = "1"

_LOOPBACK = ("127.", "::1", "localhost")


@dataclass(frozen=True, slots=True)
class Cells:
    """A synthetic picture of which everything is known.

    Parameters
    ----------
    image : ndarray of uint16, shape (96, 112)
        Bright discs with soft edges on an uneven, noisy ground.
    labels : ndarray of int32, shape (96, 112)
        1…n, one per disc; 0 is ground.
    centres : ndarray of float, shape (n, 2)
        Y and X of the discs, in px.
    radii_px : ndarray of float, shape (n,)
    """

    image: NDArray[np.uint16]
    labels: NDArray[np.int32]
    centres: NDArray[np.float64]
    radii_px: NDArray[np.float64]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20231002)


@pytest.fixture
def cells(rng: np.random.Generator) -> Cells:
    centres = np.array([(20, 20), (22, 58), (26, 94), (58, 30), (60, 70), (80, 100)], np.float64)
    radii = np.array([7, 9, 6, 10, 8, 6], np.float64)
    y, x = np.mgrid[:96, :112].astype(np.float64)
    labels = np.zeros(y.shape, np.int32)
    signal = np.zeros(y.shape)
    for i, ((cy, cx), radius) in enumerate(zip(centres, radii, strict=True), start=1):
        distance = np.hypot(y - cy, x - cx)
        labels[distance <= radius] = i
        signal += 1 / (1 + np.exp(2 * (distance - radius)))
    image = 400 + 2 * x + 900 * signal + rng.normal(0, 40, y.shape)
    return Cells(image.clip(0, 65535).astype(np.uint16), labels, centres, radii)


@pytest.fixture(autouse=True)
def _own_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Downloads and trained models of a test go to folders of its own."""
    folder = tmp_path_factory.mktemp("stores")
    monkeypatch.setenv("CELLENHANCE_CACHE", str(folder / "cache"))
    monkeypatch.setenv("CELLENHANCE_MODELS", str(folder / "models"))
    monkeypatch.delenv("CELLENHANCE_BASE_URL", raising=False)


@pytest.fixture
def make_napari_viewer(make_napari_viewer: Callable[..., Any]) -> Callable[..., Any]:
    """napari's own, which resets every setting first and so forgets what the matrix asks for by ``NAPARI_ASYNC``."""
    from napari.settings import get_settings

    get_settings().experimental.async_ = os.environ.get("NAPARI_ASYNC", "0") == "1"
    return make_napari_viewer


@pytest.fixture(autouse=True)
def _no_network(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only this computer can be reached, unless the test is marked ``network``."""
    if request.node.get_closest_marker("network"):
        return
    connect, connect_ex, look_up = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def check(host: Any) -> None:
        if isinstance(host, str) and host and not host.startswith(_LOOPBACK):
            raise OSError(f"a test wanted to reach {host}; only the loopback interface is open")

    def guarded_connect(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            check(address[0])
        connect(self, address)

    def guarded_connect_ex(self: socket.socket, address: Any) -> int:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            check(address[0])
        return connect_ex(self, address)

    def guarded_look_up(host: Any, *rest: Any, **more: Any) -> Any:
        check(host)
        return look_up(host, *rest, **more)

    monkeypatch.setattr(socket.socket, "connect", guarded_connect)
    monkeypatch.setattr(socket.socket, "connect_ex", guarded_connect_ex)
    monkeypatch.setattr(socket, "getaddrinfo", guarded_look_up)


@pytest.fixture(autouse=True)
def _no_window_left() -> Iterator[None]:
    """A test closes the windows that it opened."""
    yield
    widgets = sys.modules.get("qtpy.QtWidgets")
    app = widgets.QApplication.instance() if widgets is not None else None
    if app is None:
        return
    app.processEvents()
    left = [widget for widget in app.topLevelWidgets() if widget.isVisible()]
    for widget in left:
        widget.close()
    assert not left, f"windows left open: {left}"
