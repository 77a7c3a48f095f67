"""A real HTTP server on the loopback interface that can misbehave in every way a network does."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_cellenhance.zoo.cards import FileEntry

PAYLOAD = np.random.default_rng(7).integers(0, 256, 300_000, dtype=np.uint8).tobytes()
LOGIN_PAGE = b"<!doctype html><title>Welcome to AirportWiFi</title><form>accept our terms</form>"


@dataclass
class TinyZoo:
    """Address of the server, the folder it may cache in, and what was asked of it."""

    base_url: str
    cache: Path
    release: threading.Event
    payload: bytes = PAYLOAD
    requests: list[str] = field(default_factory=list)
    ranges: list[str | None] = field(default_factory=list)

    def entry(self, behaviour: str = "good", **changes: Any) -> FileEntry:
        """Entry of the payload, served in the named way."""
        fields = {
            "name": "tiny.safetensors",
            "url": f"{behaviour}/tiny.safetensors",
            "sha256": hashlib.sha256(PAYLOAD).hexdigest(),
            "size_bytes": len(PAYLOAD),
        }
        return FileEntry(**{**fields, **changes})


class _Handler(BaseHTTPRequestHandler):
    zoo: TinyZoo

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent."""

    def do_GET(self) -> None:
        self.zoo.requests.append(self.path)
        # The client hangs up in some tests; that is what they are about.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            getattr(self, f"_{self.path.split('/')[1].replace('-', '_')}")()

    def _head(self, length: int | None, kind: str = "application/octet-stream", status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def _good(self) -> None:
        self._head(len(PAYLOAD))
        self.wfile.write(PAYLOAD)

    def _ranges(self) -> None:
        """A server that goes on where it is asked to."""
        asked = self.headers.get("Range")
        self.zoo.ranges.append(asked)
        if asked is None:
            self._good()
            return
        start = int(asked.removeprefix("bytes=").removesuffix("-"))
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {start}-{len(PAYLOAD) - 1}/{len(PAYLOAD)}")
        self.send_header("Content-Length", str(len(PAYLOAD) - start))
        self.end_headers()
        self.wfile.write(PAYLOAD[start:])

    def _cut(self) -> None:
        self._head(len(PAYLOAD))
        self.wfile.write(PAYLOAD[:100_000])

    def _short(self) -> None:
        self._head(None)
        self.wfile.write(PAYLOAD[:100_000])

    def _tampered(self) -> None:
        self._head(len(PAYLOAD))
        self.wfile.write(PAYLOAD[:-1] + bytes([PAYLOAD[-1] ^ 1]))

    def _login(self) -> None:
        self._head(len(LOGIN_PAGE), "text/html; charset=utf-8")
        self.wfile.write(LOGIN_PAGE)

    def _login_in_disguise(self) -> None:
        self._head(len(LOGIN_PAGE))
        self.wfile.write(LOGIN_PAGE)

    def _endless(self) -> None:
        self._head(None)
        while not self.zoo.release.is_set():
            self.wfile.write(PAYLOAD)

    def _hang(self) -> None:
        self.zoo.release.wait(20)

    def _hang_midway(self) -> None:
        self._head(len(PAYLOAD))
        self.wfile.write(PAYLOAD[:100_000])
        self.wfile.flush()
        self.zoo.release.wait(20)

    def _absent(self) -> None:
        self._head(0, status=404)

    def _broken(self) -> None:
        self._head(0, status=500)


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep every test away from the real folders, settings and proxies of this computer."""
    monkeypatch.setenv("CELLENHANCE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CELLENHANCE_MODELS", str(tmp_path / "models"))
    monkeypatch.delenv("CELLENHANCE_BASE_URL", raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def tiny_zoo(tmp_path: Path) -> Iterator[TinyZoo]:
    """Start the server; its address is ``tiny_zoo.base_url``."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    zoo = TinyZoo(
        base_url=f"http://127.0.0.1:{server.server_port}", cache=tmp_path / "cache", release=threading.Event()
    )
    server.RequestHandlerClass = type("Handler", (_Handler,), {"zoo": zoo})
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield zoo
    zoo.release.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def card_fields() -> dict[str, Any]:
    """All fields of a valid model card."""
    return {
        "id": "tiny-net",
        "title": "Tiny net",
        "summary": "For tests.",
        "version": "1.0.0",
        "recipe": "nunet",
        "architecture": {"name": "nunet", "conditioning": "head", "knots": [0.0, 5.0, 10.0]},
        "normalization": {"name": "percentile", "parameters": {"lo": 0.1, "hi": 99.9}},
        "strength": {"default": 5.0, "minimum": 0.0, "maximum": 10.0, "knots": [0, 5, 10], "identity_below": 1.0},
        "axes": "YX",
        "file": {"name": "tiny.safetensors", "url": "good/tiny.safetensors", "sha256": "a" * 64, "size_bytes": 12},
        "license": "BSD-3-Clause",
        "citation": "Nobody 2023",
        "object_diameter_px": [15, 40],
        "training": {"seed": 1},
        "scores": {"otsu_iou": 0.9},
        "bundled": False,
    }
