"""Looks for a strength that suits what is in view, in a thread of its own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from threading import Event
from typing import Any

from qtpy.QtCore import QObject

from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.widgets._guard import error_sentence, guarded
from napari_cellenhance.widgets._preview import LivePreview
from napari_cellenhance.widgets._strength import StrengthSlider
from napari_cellenhance.widgets._worker import LatestOnly, Outcome
from napari_cellenhance.workflows.suggest import suggest_on_view

__all__ = ["StrengthAdvisor"]


class StrengthAdvisor(QObject):
    """Answers the button beside the slider. With the preview on, its features are used again.

    Parameters
    ----------
    slider : StrengthSlider
    preview : LivePreview
    tell, complain : callable
        Take one sentence for the user.
    take_back : callable
        Takes a sentence that was told away, if it is still there.
    """

    def __init__(
        self,
        slider: StrengthSlider,
        preview: LivePreview,
        tell: Callable[[str], None],
        complain: Callable[[str], None],
        take_back: Callable[[str], None],
    ) -> None:
        super().__init__()
        self._slider, self._preview = slider, preview
        self._tell, self._complain, self._take_back = tell, complain, take_back
        self._said = ""
        self._mailbox = LatestOnly()
        self._mailbox.delivered.connect(self._on_delivered)
        self._newest = 0
        self._gone = Event()
        slider.suggestion_wanted.connect(self.look)
        slider.changed.connect(self._on_moved)

    def show_error(self, message: str) -> None:
        """Show a sentence."""
        self._slider.set_searching(is_searching=False)
        self._complain(message)

    @guarded
    def look(self) -> None:
        """Begin to look; the slider moves when it is found."""
        ask = self._preview.ask_now()
        if ask is None:
            raise ParameterError("Choose an image layer first: the strength is suggested from what is in view.")
        self._slider.set_searching(is_searching=True)
        work = partial(suggest_on_view, self._preview.session, ask.request, is_cancelled=self._gone.is_set)
        self._newest = self._mailbox.submit(work)

    def forget(self) -> None:
        """Take mark and sentence away, and do not wait for an answer: it was about something else."""
        self._newest = 0
        self._unsay()
        self._slider.set_searching(is_searching=False)
        self._slider.show_suggestion(None)

    @guarded
    def _on_moved(self) -> None:
        """The reason for a strength says nothing about another one; the mark and its tooltip stay."""
        if self._slider.suggestion is None:
            self._unsay()

    def _unsay(self) -> None:
        said, self._said = self._said, ""
        if said:
            self._take_back(said)

    @guarded
    def _on_delivered(self, ticket: int, outcome: Outcome) -> None:
        if ticket != self._newest or self._gone.is_set():
            return
        self._slider.set_searching(is_searching=False)
        if outcome.error is not None:
            self._complain(error_sentence(outcome.error))
            return
        self._slider.show_suggestion(outcome.value)
        self._said = outcome.value.reason
        self._tell(self._said)

    def close(self, *_: Any) -> None:
        """Stop; touches nothing of Qt."""
        self._gone.set()
        self._mailbox.close()
