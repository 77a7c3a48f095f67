"""One download through pooch, with every failure translated to a plain sentence.

What came before a cancel or a cut line is kept beside the cache under a name of its own, and continued the next time
where the server allows it. It counts as a file only when the SHA-256 of the whole is right.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_cellenhance.core.errors import ChecksumError, DownloadError

if TYPE_CHECKING:
    from napari_cellenhance.zoo.cards import FileEntry

__all__ = ["DownloadCancelled", "fetch", "partial_path"]

# Small enough that a cancel on a slow line takes effect soon; 900 pieces for the weights of NU-Net.
_PIECE_BYTES = 8192
_REPORT_EVERY_S = 0.1
_WORTH_KEEPING_BYTES = 1 << 16
"""Less is quicker to fetch again, and may be the log-in page of a network."""


class DownloadCancelled(DownloadError):  # noqa: N818 - a wish of the user, not a fault
    """The user stopped a download; nothing was changed, and what came so far is kept for the next time."""


def partial_path(entry: FileEntry, folder: Path) -> Path:
    """Where the beginning of an interrupted download is kept; another version of the file has another place."""
    return folder / f"{entry.name}.{entry.sha256[:12]}.partial"


def fetch(
    entry: FileEntry,
    address: str,
    folder: Path,
    on_progress: Callable[[int, int], None] | None,
    is_cancelled: Callable[[], bool] | None,
    timeout_s: float,
) -> Path:
    """Download ``address`` into the empty ``folder`` and check its SHA-256; goes on with what lies beside the folder.

    Raises
    ------
    DownloadError
        No network, refused, cut, hanging, not the file but a web page, disk full.
    ChecksumError
        All bytes arrived and they are not the ones of the manifest.
    DownloadCancelled
        ``is_cancelled`` said so.
    """
    kept = partial_path(entry, folder.parent)
    begun = folder / "begun"
    # Taken by renaming: of two programs that download the same file, one goes on and the other begins anew.
    with contextlib.suppress(OSError):
        os.replace(kept, begun)
    if begun.is_file():
        try:
            return _fetch_once(entry, address, begun, on_progress, is_cancelled, timeout_s)
        except ChecksumError:
            begun.unlink(missing_ok=True)  # another file than the one that was begun; once more from the start
    return _fetch_once(entry, address, begun, on_progress, is_cancelled, timeout_s)


def _fetch_once(
    entry: FileEntry,
    address: str,
    begun: Path,
    on_progress: Callable[[int, int], None] | None,
    is_cancelled: Callable[[], bool] | None,
    timeout_s: float,
) -> Path:
    import pooch

    folder = begun.parent
    stream = _Stream(entry, on_progress, is_cancelled, timeout_s, begun)
    try:
        path = pooch.retrieve(
            address, known_hash=f"sha256:{entry.sha256}", fname=entry.name, path=folder, downloader=stream
        )
    except ValueError as error:
        # The only ValueError left is pooch's own hash check: _Stream translates the rest.
        raise ChecksumError(
            f"what {address} sent is not {entry.name}: its SHA-256 differs from the manifest, so it was thrown away. "
            "The file on the server is damaged, or a newer napari-cellenhance is needed."
        ) from error
    except (DownloadError, ChecksumError):
        raise
    except OSError as error:
        reason = "the disk is full" if error.errno == errno.ENOSPC else (error.strerror or str(error))
        raise DownloadError(f"{entry.name} could not be stored in {folder.parent}: {reason}.") from error
    return Path(path)


@dataclass(frozen=True, slots=True)
class _Stream:
    """Downloader for pooch: called with the address and the temporary file to fill."""

    entry: FileEntry
    on_progress: Callable[[int, int], None] | None
    is_cancelled: Callable[[], bool] | None
    timeout_s: float
    begun: Path

    def __call__(self, url: str, output_file: str, pooch: Any) -> None:
        """Fill ``output_file``, or raise DownloadError."""
        import requests

        n_begun = self.begun.stat().st_size if self.begun.is_file() else 0
        n_begun = n_begun if n_begun < self.entry.size_bytes else 0
        headers = {"Range": f"bytes={n_begun}-"} if n_begun else {}
        try:
            self._stop_if_cancelled()
            with requests.get(url, stream=True, timeout=self.timeout_s, headers=headers) as response:
                response.raise_for_status()
                self._refuse_web_page(response.headers.get("content-type", ""), url)
                goes_on = response.status_code == requests.codes.partial_content and str(
                    response.headers.get("content-range", "")
                ).startswith(f"bytes {n_begun}-")
                self._copy(response.iter_content(_PIECE_BYTES), url, n_begun if goes_on else 0)
        except requests.RequestException as error:
            self._keep()
            raise DownloadError(f"{self.entry.name} could not be downloaded: {_plain(error, url)}.") from error
        except DownloadCancelled:
            self._keep()
            raise
        os.replace(self.begun, output_file)

    def _keep(self) -> None:
        """Put what came so far where the next download finds it, where that is worth while."""
        with contextlib.suppress(OSError):
            if self.begun.stat().st_size >= _WORTH_KEEPING_BYTES:
                os.replace(self.begun, partial_path(self.entry, self.begun.parent.parent))

    def _copy(self, pieces: Any, url: str, n_begun: int) -> None:
        n_done, next_report = n_begun, 0.0
        expected = self.entry.size_bytes
        with open(self.begun, "ab" if n_begun else "wb") as out:
            for piece in pieces:
                self._stop_if_cancelled()
                out.write(piece)
                n_done += len(piece)
                if n_done > expected:
                    raise DownloadError(
                        f"{url} sent more than the {expected} bytes of {self.entry.name}; that is another file."
                    )
                if self.on_progress is not None and time.monotonic() >= next_report:
                    self.on_progress(n_done, expected)
                    next_report = time.monotonic() + _REPORT_EVERY_S
        if n_done < expected:
            self._keep()
            raise DownloadError(
                f"the connection to {url} ended after {n_done} of {expected} bytes of {self.entry.name}. Try again."
            )
        if self.on_progress is not None:
            self.on_progress(n_done, expected)

    def _refuse_web_page(self, content_type: str, url: str) -> None:
        if content_type.split(";")[0].strip().lower() in ("text/html", "application/xhtml+xml"):
            raise DownloadError(
                f"{url} answered with a web page instead of {self.entry.name}: perhaps the log-in page of "
                "this network. Open a web browser, log in, and try again."
            )

    def _stop_if_cancelled(self) -> None:
        if self.is_cancelled is not None and self.is_cancelled():
            raise DownloadCancelled(f"the download of {self.entry.name} was cancelled; nothing was changed")


def _plain(error: Exception, url: str) -> str:
    import requests

    if isinstance(error, requests.HTTPError) and error.response is not None:
        code = error.response.status_code
        missing = ": the file is not there" if code in (404, 410) else ""
        return f"{url} answered {code}{missing}"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return f"the connection to {url} was cut midway. Try again"
    if isinstance(error, requests.Timeout) or "timed out" in str(error).lower():
        return f"{url} did not answer in time. Try again later"
    if isinstance(error, requests.ConnectionError):
        return f"{url} cannot be reached. Is this computer online?"
    return f"{url} cannot be used ({type(error).__name__}: {error})"
