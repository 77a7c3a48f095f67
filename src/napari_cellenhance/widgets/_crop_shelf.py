"""The library that a dock works on: what is in it, where it was saved, and the way back."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from qtpy.QtCore import QObject, Signal

from napari_cellenhance.core.crop_library import CropClass, CropLibrary, add

__all__ = ["CropShelf", "Opened"]

Opened = tuple[Path, CropLibrary, list[dict[str, Any]], frozenset[tuple[str, int]]]
"""Folder, what is in it, how it was made, and its files when it was read."""
_MAX_STEPS_BACK = 50
# Closing a dock cannot be refused, and what was sorted by hand took a person an hour: it stays as long as its viewer.
_left_behind: WeakKeyDictionary[Any, tuple[Path | None, CropLibrary, list[dict[str, Any]], frozenset[tuple[str, int]]]]
_left_behind = WeakKeyDictionary()


class CropShelf(QObject):
    """Holds one library. ``changed`` comes with every change, ``replaced`` when its objects are others."""

    changed = Signal()
    replaced = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.collection = CropLibrary()
        self.folder: Path | None = None
        self.stamp: frozenset[tuple[str, int]] = frozenset()
        self.steps: list[dict[str, Any]] = []
        self.is_saved = True
        self._before: list[tuple[CropLibrary, list[dict[str, Any]]]] = []

    @property
    def can_undo(self) -> bool:
        """Something can be taken back."""
        return bool(self._before)

    def add(self, more: CropLibrary, record: dict[str, Any]) -> int:
        """Put what was found in; returns how many objects were found before, in this or another way.

        Raises
        ------
        ImageError
            Grey values and colours do not go together.
        """
        both = add(self.collection, more)
        n_again = len(self.collection.objects) + len(more.objects) - len(both.objects)
        self._set(both, [*self.steps, record], has_others=True)
        return n_again

    def move(self, numbers: list[int], kind: CropClass) -> int:
        """Put objects into another class; returns how many were not there already."""
        others = [number for number in numbers if self.collection.objects[number].kind != kind]
        if others:
            self._set(self.collection.moved(others, kind), self.steps)
        return len(others)

    def undo(self) -> None:
        """Take the last change back."""
        if not self._before:
            return
        n_objects = len(self.collection.objects)
        self.collection, self.steps = self._before.pop()
        self.is_saved = False
        if len(self.collection.objects) != n_objects:
            self.replaced.emit()
        self.changed.emit()

    def _set(self, library: CropLibrary, steps: list[dict[str, Any]], *, has_others: bool = False) -> None:
        self._before = [*self._before, (self.collection, self.steps)][-_MAX_STEPS_BACK:]
        self.collection, self.steps, self.is_saved = library, steps, False
        if has_others:
            self.replaced.emit()
        self.changed.emit()

    def show_opened(self, opened: Opened) -> None:
        """Take over what was read from a folder."""
        self._show(*opened)

    def _show(
        self,
        folder: Path | None,
        library: CropLibrary,
        steps: list[dict[str, Any]],
        stamp: frozenset[tuple[str, int]],
        *,
        is_saved: bool = True,
    ) -> None:
        self.folder, self.collection, self.steps, self.stamp = folder, library, steps, stamp
        self.is_saved, self._before = is_saved, []
        self.replaced.emit()
        self.changed.emit()

    def show_saved(self, folder: Path, saved: CropLibrary, stamp: frozenset[tuple[str, int]]) -> None:
        """Remember where the library lies; what was changed while it was written is not saved yet."""
        self.folder, self.stamp = folder, stamp
        self.is_saved = saved is self.collection
        self.changed.emit()

    def clear(self) -> None:
        """Begin an empty one."""
        self._show(None, CropLibrary(), [], frozenset())

    def leave_behind(self, viewer: Any) -> None:
        """Keep changes that are not saved for the next dock of this viewer."""
        if not self.is_saved and self.collection.objects:
            _left_behind[viewer] = (self.folder, self.collection, self.steps, self.stamp)

    def take_back(self, viewer: Any) -> bool:
        """Take over what an earlier dock left behind; says whether there was something."""
        left = _left_behind.pop(viewer, None)
        if left is not None:
            self._show(*left, is_saved=False)
        return left is not None

    def record(self) -> dict[str, Any]:
        """How it was made."""
        return {"made": "library of crops, looked through by a person", "steps": list(self.steps)}
