"""What a semantic filter is about to learn from, before it does: synthetic pairs, or the scene of a movie."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_cellenhance.widgets._guard import error_sentence, guarded
from napari_cellenhance.widgets._restore_look import Picture, PictureGrid
from napari_cellenhance.widgets._status import alarm
from napari_cellenhance.widgets._worker import LatestOnly, Outcome
from napari_cellenhance.workflows.semantic_data import MovieLook, PairSheet, Sheet, SheetAsk, look_at_movies
from napari_cellenhance.workflows.train_semantic import SemanticRequest

__all__ = ["MovieScene", "PairLook"]

_SOON = "The pictures come in a moment."
_TITLES = ("Image 1", "Image 2", "In both: wanted")
_SHEET_TIP = (
    "Pairs as the network sees them: it is given image 1 and has to predict image 2. All it can know is what both "
    "share. Look whether they resemble your images."
)
_SCENE_TIP = (
    "The temporal median is what the network will hold for the scene: it must be free of what moves. Beside it, how "
    "often each pixel is covered: white is always."
)


class _Look(QWidget):
    """Pictures made in a thread of their own, and sentences about them."""

    def __init__(self, name: str, tip: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._ticket = 0
        self._work = LatestOnly()
        self.made: Any = None
        self.grid = PictureGrid()
        self.grid.setAccessibleName(name)
        self.grid.setToolTip(tip)
        self.note = QLabel()
        self.note.setWordWrap(True)
        self.box = QVBoxLayout(self)
        self.box.setContentsMargins(0, 0, 0, 0)
        self.box.addWidget(self.grid)
        self.box.addWidget(self.note)
        self._work.delivered.connect(self._on_made)

    def pictures(self, made: Any) -> Sequence[Sequence[Picture]]:
        """Make rows of pictures of what the thread delivered."""
        raise NotImplementedError

    def sentences(self, _made: Any) -> str:
        """Say something about it, as rich text."""
        return ""

    def submit(self, call: Callable[[], Any] | None, why: str = "") -> None:
        """Look at something else, or at nothing, with the reason."""
        if call is None:
            self._work.drop()
            self._ticket = -1
            self._show(None, why)
            return
        self._ticket = self._work.submit(call)
        if self.made is None:
            self._show(None, _SOON)

    @guarded
    def _on_made(self, ticket: int, outcome: Outcome) -> None:
        if ticket != self._ticket:
            return
        if outcome.error is not None:
            self._show(None, alarm(error_sentence(outcome.error)))
        else:
            self._show(outcome.value, self.sentences(outcome.value))

    def _show(self, made: Any, note: str) -> None:
        self.made = made
        self.grid.setVisible(made is not None)
        self.grid.show_rows([] if made is None else self.pictures(made))
        self.note.setText(note)
        self.note.setVisible(bool(note))

    def show_error(self, message: str) -> None:
        """Show a sentence in place of the pictures."""
        self._show(None, alarm(message))

    def close_down(self) -> None:
        """End the thread."""
        self._work.close()


class PairLook(_Look):
    """Synthetic pairs, and a button for others."""

    another_wanted = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("Synthetic pairs", _SHEET_TIP, parent)
        self._sheet = PairSheet()
        self.another = QPushButton("Other pairs")
        self.another.setToolTip("Draw other pairs with the same settings.")
        row = QHBoxLayout()
        row.addWidget(self.another)
        row.addStretch(1)
        self.box.addLayout(row)
        self.another.clicked.connect(self._want_another)
        self.ask(None)

    def ask(self, ask: SheetAsk | None) -> None:
        """Draw these pairs, or show nothing."""
        self.another.setEnabled(ask is not None)
        self.another.setVisible(ask is not None)
        self.submit(None if ask is None else partial(self._sheet.draw, ask))

    def pictures(self, made: Sheet) -> Sequence[Sequence[Picture]]:
        """One row for each pair; the titles above the first."""
        titles = [_TITLES, *[("", "", "")] * (len(made.rows) - 1)]
        return [
            [(title, (), picture) for title, picture in zip(names, row, strict=True)]
            for names, row in zip(titles, made.rows, strict=True)
        ]

    def _want_another(self) -> None:
        self.another_wanted.emit()


class MovieScene(_Look):
    """Temporal median and coverage of movies, with what speaks for and against them."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("Temporal median of the movie", _SCENE_TIP, parent)
        self.ask(None)

    def ask(self, request: SemanticRequest | None) -> None:
        """Look at the movies of a request, or show nothing."""
        self.submit(None if request is None else partial(look_at_movies, request))

    def pictures(self, made: tuple[MovieLook, ...]) -> Sequence[Sequence[Picture]]:
        """One row for each movie."""
        return [[(f"Median of {look.name}", (), look.median), ("Covered", (), look.coverage)] for look in made]

    def sentences(self, made: tuple[MovieLook, ...]) -> str:
        """What was found, and in red what speaks against it."""
        lines = []
        for look in made:
            name = f"{look.name}: " if len(made) > 1 else ""
            lines += [f"{name}{' '.join(look.facts)}", *(alarm(f"{name}{warning}") for warning in look.warnings)]
        return "<br>".join(lines)
