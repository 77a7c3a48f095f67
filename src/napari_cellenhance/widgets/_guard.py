"""Slots that never let an exception reach Qt."""

from __future__ import annotations

import functools
import inspect
import logging
import re
from collections.abc import Callable
from typing import Any, Protocol

from napari_cellenhance.core.errors import CellEnhanceError

__all__ = ["Reports", "error_sentence", "guarded"]

_LOGGER = logging.getLogger(__name__)


class Reports(Protocol):
    """Anything with a place to show an error."""

    def show_error(self, message: str) -> None:
        """Show one sentence to the user."""


def error_sentence(error: BaseException) -> str:
    """Say an error to a biologist.

    Our own errors are sentences already; anything else names its kind, and where the
    full report is.
    """
    if isinstance(error, CellEnhanceError):
        text = str(error)
        begins_with_name = re.match(r"\S*[./\\_]\S", text)  # of a file, which has its own letters
        return text if begins_with_name else text[:1].upper() + text[1:]
    if isinstance(error, MemoryError):
        return (
            "There is not enough memory for this image. Lower the memory limit in the preferences, "
            "or choose a smaller scope (view or current slice)."
        )
    if isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] == "torch":
        return (
            "The filters need PyTorch, which is not installed in this environment. "
            "Install it with “pip install torch” and restart napari."
        )
    text = str(error).strip() or "no further explanation"
    return f"Something unexpected happened ({type(error).__name__}: {text}). The full report is in napari's log."


def guarded(slot: Callable[..., Any]) -> Callable[..., None]:
    """Wrap a slot of a panel: an exception becomes a sentence in the panel and a traceback in the log.

    PyQt6 aborts the process when a slot raises outside ``napari.run()``; a panel must not do
    that to anybody's data. Surplus signal arguments are dropped, as Qt does for plain slots.
    """
    parameters = list(inspect.signature(slot).parameters.values())[1:]
    takes_any = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    n_taken = sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)

    @functools.wraps(slot)
    def call(self: Reports, *args: Any) -> None:
        try:
            slot(self, *(args if takes_any else args[:n_taken]))
        except Exception as error:  # a door translates whatever comes
            _LOGGER.exception("%s failed", slot.__qualname__)
            _show(self, error_sentence(error))

    return call


def _show(panel: Reports, sentence: str) -> None:
    try:
        panel.show_error(sentence)
    except RuntimeError:  # the panel's window is gone; the log has it
        _LOGGER.debug("nobody left to tell: %s", sentence)
