"""Progress and cancelling as plain callables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["IsCancelled", "OnProgress", "Progress", "never_cancelled", "no_progress"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """State of a running workflow: ``n_done`` of ``n_total`` units (bytes of a download), and a sentence."""

    n_done: int
    n_total: int
    message: str = ""
    eta_s: float | None = None
    is_bytes: bool = False


OnProgress = Callable[[Progress], None]
IsCancelled = Callable[[], bool]


def no_progress(progress: Progress) -> None:
    """Ignore progress."""


def never_cancelled() -> bool:
    """Say that nobody asked to stop."""
    return False
