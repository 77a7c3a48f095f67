"""From an entry to a verified file: bundled, cached, downloaded, and every way this fails."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from napari_cellenhance.core.errors import CellEnhanceError, ChecksumError, DownloadError
from napari_cellenhance.zoo import _download, cache
from napari_cellenhance.zoo.cache import DownloadCancelled, find_local, resolve, url_of
from napari_cellenhance.zoo.folders import cache_dir, sha256_of, user_models_dir

NOWHERE = "http://127.0.0.1:9"  # the discard port: nobody listens


def get(tiny_zoo: Any, behaviour: str = "good", **options: Any) -> Path:
    return resolve(tiny_zoo.entry(behaviour), base_url=tiny_zoo.base_url, **{"timeout_s": 0.5, **options})


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def test_downloads_once_and_then_needs_no_server(tiny_zoo: Any) -> None:
    reports: list[tuple[int, int]] = []
    path = get(tiny_zoo, on_progress=lambda done, total: reports.append((done, total)))
    assert path == tiny_zoo.cache / "tiny.safetensors"
    assert path.read_bytes() == tiny_zoo.payload
    assert files_in(tiny_zoo.cache) == ["tiny.safetensors"]
    assert reports[-1] == (len(tiny_zoo.payload), len(tiny_zoo.payload))
    assert [done for done, _ in reports] == sorted(done for done, _ in reports)
    assert resolve(tiny_zoo.entry(), base_url=NOWHERE) == path
    assert len(tiny_zoo.requests) == 1


FAULTS = {
    "cut": (DownloadError, "cut midway"),
    "short": (DownloadError, "ended after 100000 of 300000 bytes"),
    "tampered": (ChecksumError, "SHA-256 differs"),
    "login": (DownloadError, "log-in page"),
    "login-in-disguise": (DownloadError, "ended after"),
    "endless": (DownloadError, "more than the 300000 bytes"),
    "hang": (DownloadError, "did not answer in time"),
    "hang-midway": (DownloadError, "did not answer in time"),
    "absent": (DownloadError, "answered 404: the file is not there"),
    "broken": (DownloadError, "answered 500"),
}


KEPT = ("cut", "short", "hang-midway")
"""Faults after which the beginning of the file is kept for the next time."""


@pytest.mark.parametrize("behaviour", FAULTS)
def test_a_faulty_server_leaves_nothing_and_gives_one_sentence(tiny_zoo: Any, behaviour: str) -> None:
    kind, words = FAULTS[behaviour]
    start = time.monotonic()
    with pytest.raises(kind, match=words) as caught:
        get(tiny_zoo, behaviour)
    assert time.monotonic() - start < 8.0
    assert str(tiny_zoo.cache) in str(caught.value), "the message must name the folder for a file put by hand"
    assert "\n" not in str(caught.value)
    left = [_download.partial_path(tiny_zoo.entry(), tiny_zoo.cache).name] if behaviour in KEPT else []
    assert files_in(tiny_zoo.cache) == left
    assert find_local(tiny_zoo.entry()) is None, "a beginning is no file"
    assert get(tiny_zoo).read_bytes() == tiny_zoo.payload, "the next good run works"
    assert files_in(tiny_zoo.cache) == ["tiny.safetensors"]


def begin(tiny_zoo: Any) -> Path:
    """Download a part, stopped by the user."""
    seen: list[int] = []
    with pytest.raises(DownloadCancelled):
        get(tiny_zoo, "ranges", on_progress=lambda done, _: seen.append(done), is_cancelled=lambda: len(seen) > 12)
    part = _download.partial_path(tiny_zoo.entry(), tiny_zoo.cache)
    assert 65_536 <= part.stat().st_size < len(tiny_zoo.payload)
    return part


def test_a_cancelled_download_goes_on_where_it_stopped(tiny_zoo: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_download, "_REPORT_EVERY_S", 0.0)
    n_begun = begin(tiny_zoo).stat().st_size
    reports: list[int] = []
    path = get(tiny_zoo, "ranges", on_progress=lambda done, _: reports.append(done))
    assert path.read_bytes() == tiny_zoo.payload
    assert tiny_zoo.ranges == [None, f"bytes={n_begun}-"]
    assert reports[0] > n_begun, "progress counts what was there"
    assert files_in(tiny_zoo.cache) == ["tiny.safetensors"]


def test_a_server_without_ranges_is_asked_for_the_whole(tiny_zoo: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_download, "_REPORT_EVERY_S", 0.0)
    begin(tiny_zoo)
    assert get(tiny_zoo, "good").read_bytes() == tiny_zoo.payload


def test_a_beginning_of_something_else_is_thrown_away(tiny_zoo: Any) -> None:
    part = _download.partial_path(tiny_zoo.entry(), tiny_zoo.cache)
    part.parent.mkdir(parents=True)
    part.write_bytes(bytes(100_000))
    assert get(tiny_zoo, "ranges").read_bytes() == tiny_zoo.payload
    assert tiny_zoo.ranges == ["bytes=100000-", None], "continued, found wrong, begun anew"


def test_a_beginning_that_is_as_long_as_the_file_is_no_file(tiny_zoo: Any) -> None:
    part = _download.partial_path(tiny_zoo.entry(), tiny_zoo.cache)
    part.parent.mkdir(parents=True)
    part.write_bytes(bytes(len(tiny_zoo.payload)))
    assert find_local(tiny_zoo.entry()) is None
    assert get(tiny_zoo, "ranges").read_bytes() == tiny_zoo.payload


def test_a_cancel_before_the_first_byte_keeps_the_beginning(tiny_zoo: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_download, "_REPORT_EVERY_S", 0.0)
    part = begin(tiny_zoo)
    before = part.read_bytes()
    with pytest.raises(DownloadCancelled):
        get(tiny_zoo, "ranges", is_cancelled=lambda: True)
    assert part.read_bytes() == before


@pytest.mark.parametrize("behaviour", FAULTS)
def test_a_good_cached_file_is_never_replaced(tiny_zoo: Any, behaviour: str) -> None:
    good = get(tiny_zoo)
    before = good.stat()
    assert get(tiny_zoo, behaviour) == good
    assert (good.stat().st_ino, good.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_nobody_listens(tiny_zoo: Any) -> None:
    with pytest.raises(DownloadError, match=r"cannot be reached. Is this computer online") as caught:
        resolve(tiny_zoo.entry(), base_url=NOWHERE, timeout_s=0.5)
    assert f"put tiny.safetensors into {tiny_zoo.cache}" in str(caught.value)


def test_a_file_put_by_hand_is_used(tiny_zoo: Any) -> None:
    tiny_zoo.cache.mkdir(parents=True)
    by_hand = tiny_zoo.cache / "tiny.safetensors"
    by_hand.write_bytes(tiny_zoo.payload)
    assert resolve(tiny_zoo.entry(), base_url=NOWHERE) == by_hand
    assert resolve(tiny_zoo.entry(), allow_download=False) == by_hand


def test_no_address_is_set(tiny_zoo: Any) -> None:
    with pytest.raises(DownloadError, match=r"no download address is set .*CELLENHANCE_BASE_URL"):
        resolve(tiny_zoo.entry())


def test_the_address_comes_from_the_environment(tiny_zoo: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELLENHANCE_BASE_URL", tiny_zoo.base_url + "/")
    assert resolve(tiny_zoo.entry()).read_bytes() == tiny_zoo.payload
    assert url_of(tiny_zoo.entry()) == f"{tiny_zoo.base_url}/good/tiny.safetensors"


def test_an_absolute_url_needs_no_base(tiny_zoo: Any) -> None:
    entry = tiny_zoo.entry(url=f"{tiny_zoo.base_url}/good/x")
    assert resolve(entry).read_bytes() == tiny_zoo.payload


def test_downloading_can_be_switched_off(tiny_zoo: Any) -> None:
    with pytest.raises(DownloadError, match="downloading is switched off"):
        get(tiny_zoo, allow_download=False)
    assert tiny_zoo.requests == []


@pytest.mark.parametrize("damage", ["flipped", "partial", "empty"])
def test_a_damaged_cached_file_is_fetched_again_when_online(tiny_zoo: Any, damage: str) -> None:
    path = get(tiny_zoo)
    damage_file(path, damage)
    assert find_local(tiny_zoo.entry()) is None
    assert get(tiny_zoo).read_bytes() == tiny_zoo.payload
    assert files_in(tiny_zoo.cache) == ["tiny.safetensors"], "the damaged copy goes once a good one is there"


@pytest.mark.parametrize("damage", ["flipped", "partial", "empty"])
def test_a_damaged_cached_file_is_set_aside_when_offline(tiny_zoo: Any, damage: str) -> None:
    path = get(tiny_zoo)
    damage_file(path, damage)
    with pytest.raises(DownloadError, match=r"was damaged or incomplete .* set aside as tiny.safetensors.damaged"):
        resolve(tiny_zoo.entry(), base_url=NOWHERE, timeout_s=0.5)
    assert files_in(tiny_zoo.cache) == ["tiny.safetensors.damaged"]


def damage_file(path: Path, damage: str) -> None:
    data = bytearray(path.read_bytes())
    data[5] ^= 1
    path.write_bytes({"flipped": bytes(data), "partial": bytes(data[:1000]), "empty": b""}[damage])


def test_cancel_during_the_download(tiny_zoo: Any) -> None:
    seen: list[int] = []
    with pytest.raises(DownloadCancelled, match="was cancelled; nothing was changed"):
        get(tiny_zoo, on_progress=lambda done, _: seen.append(done), is_cancelled=lambda: bool(seen))
    assert seen[-1] < len(tiny_zoo.payload), "it must stop before the end"
    assert files_in(tiny_zoo.cache) == []
    assert get(tiny_zoo).read_bytes() == tiny_zoo.payload


def test_cancel_before_the_download_asks_nobody(tiny_zoo: Any) -> None:
    with pytest.raises(DownloadCancelled):
        get(tiny_zoo, is_cancelled=lambda: True)
    assert tiny_zoo.requests == []


def test_unicode_and_spaces_in_the_path(tiny_zoo: Any, tmp_path: Path) -> None:
    folder = tmp_path / "Zell Bilder µm – François 细胞"
    path = get(tiny_zoo, cache=folder)
    assert path.parent == folder
    assert path.read_bytes() == tiny_zoo.payload


def test_a_cache_folder_that_cannot_be_written(tiny_zoo: Any, tmp_path: Path) -> None:
    # A file where the folder should be: refused for every user, root included.
    (tmp_path / "taken").write_text("I am a file")
    with pytest.raises(DownloadError, match=r"cannot be written .*CELLENHANCE_CACHE"):
        get(tiny_zoo, cache=tmp_path / "taken" / "cache")
    with pytest.raises(DownloadError, match=r"cannot be written .*CELLENHANCE_CACHE"):
        get(tiny_zoo, cache=tmp_path / "taken")
    assert (tmp_path / "taken").read_text() == "I am a file"


def test_a_full_disk(tiny_zoo: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(_download, "open", full, raising=False)
    with pytest.raises(DownloadError, match="the disk is full"):
        get(tiny_zoo)
    assert files_in(tiny_zoo.cache) == []


def test_a_killed_download_leaves_no_bad_file_and_its_rest_is_swept_later(tiny_zoo: Any) -> None:
    code = (
        "import sys, json\n"
        "from napari_cellenhance.zoo.cache import resolve\n"
        "from napari_cellenhance.zoo.cards import FileEntry\n"
        "resolve(FileEntry(**json.loads(sys.argv[1])), base_url=sys.argv[2],\n"
        "        on_progress=lambda *_: print('started', flush=True))\n"
    )
    arguments = [sys.executable, "-c", code, tiny_zoo.entry("hang-midway").model_dump_json(), tiny_zoo.base_url]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == b"started"
        process.kill()
    (orphan,) = tiny_zoo.cache.iterdir()
    assert orphan.name.startswith("incoming-")
    assert find_local(tiny_zoo.entry()) is None

    get(tiny_zoo)
    assert orphan.exists(), "a fresh folder may belong to a running download"
    (tiny_zoo.cache / "tiny.safetensors").unlink()
    two_days_ago = time.time() - 2 * 24 * 3600
    os.utime(orphan, (two_days_ago, two_days_ago))
    get(tiny_zoo)
    assert files_in(tiny_zoo.cache) == ["tiny.safetensors"]


def test_the_bundled_copy_comes_first(tiny_zoo: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundled = tmp_path / "bundled"
    bundled.mkdir()
    monkeypatch.setattr(cache, "bundled_dir", lambda: bundled)
    (bundled / "tiny.safetensors").write_bytes(tiny_zoo.payload)
    assert resolve(tiny_zoo.entry(), base_url=NOWHERE) == bundled / "tiny.safetensors"
    assert not tiny_zoo.cache.exists()
    tiny_zoo.cache.mkdir()
    (tiny_zoo.cache / "tiny.safetensors").write_bytes(tiny_zoo.payload)
    assert find_local(tiny_zoo.entry()) == bundled / "tiny.safetensors"
    (tiny_zoo.cache / "tiny.safetensors").unlink()

    damage_file(bundled / "tiny.safetensors", "flipped")
    assert get(tiny_zoo) == tiny_zoo.cache / "tiny.safetensors", "a damaged bundled copy is passed over"
    assert (bundled / "tiny.safetensors").exists(), "the package folder is never written to"


def test_a_user_file_is_never_downloaded_nor_touched(tiny_zoo: Any) -> None:
    entry = tiny_zoo.entry(url=None)
    with pytest.raises(DownloadError, match=r"missing from .* train the model again"):
        resolve(entry, base_url=tiny_zoo.base_url)
    user_models_dir().mkdir()
    path = user_models_dir() / entry.name
    path.write_bytes(tiny_zoo.payload)
    assert resolve(entry) == path == find_local(entry)
    damage_file(path, "flipped")
    with pytest.raises(ChecksumError, match="has changed since it was saved"):
        resolve(entry)
    assert path.exists()
    assert tiny_zoo.requests == []
    assert url_of(entry, "http://example.org") is None


def test_two_processes_at_once(tiny_zoo: Any) -> None:
    code = (
        "import sys, json\n"
        "from napari_cellenhance.zoo.cache import resolve\n"
        "from napari_cellenhance.zoo.cards import FileEntry\n"
        "print(resolve(FileEntry(**json.loads(sys.argv[1])), base_url=sys.argv[2]))\n"
    )
    arguments = [sys.executable, "-c", code, tiny_zoo.entry().model_dump_json(), tiny_zoo.base_url]
    processes = [subprocess.Popen(arguments, stdout=subprocess.PIPE) for _ in range(2)]
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 0
    assert (tiny_zoo.cache / "tiny.safetensors").read_bytes() == tiny_zoo.payload
    assert files_in(tiny_zoo.cache) == ["tiny.safetensors"]


def test_all_failures_are_of_the_house() -> None:
    for kind in (DownloadError, DownloadCancelled, ChecksumError):
        assert issubclass(kind, CellEnhanceError)
        assert issubclass(kind, OSError)


def test_cache_folder_precedence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CELLENHANCE_CACHE", str(tmp_path / "from-environment"))
    assert cache_dir("from-settings") == tmp_path / "from-environment"
    monkeypatch.delenv("CELLENHANCE_CACHE")
    assert cache_dir(str(tmp_path / "from-settings")) == tmp_path / "from-settings"
    assert "napari-cellenhance" in str(cache_dir())
    assert cache_dir("") == cache_dir(None) == cache_dir()
    assert not (tmp_path / "from-settings").exists(), "asking creates nothing"


def test_models_folder_is_never_inside_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert user_models_dir() == tmp_path / "models"
    monkeypatch.delenv("CELLENHANCE_MODELS")
    assert user_models_dir() == tmp_path / "cache-models"
    monkeypatch.delenv("CELLENHANCE_CACHE")
    assert cache_dir() not in user_models_dir().parents
    assert "napari-cellenhance" in str(user_models_dir())


def test_sha256_of(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    # The example of FIPS 180-2, appendix B.1.
    assert sha256_of(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
