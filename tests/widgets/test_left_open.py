"""What a shared part leaves open (``raise NotImplementedError``) is filled in by every class that is used."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from types import FunctionType

import napari_cellenhance.widgets as widgets


def _is_open(function: FunctionType) -> bool:
    return NotImplementedError.__name__ in function.__code__.co_names


def _classes() -> Iterator[type]:
    for module in pkgutil.iter_modules(widgets.__path__, f"{widgets.__name__}."):
        for value in vars(importlib.import_module(module.name)).values():
            if inspect.isclass(value) and value.__module__ == module.name:
                yield value


def test_nothing_is_left_open_where_it_is_used() -> None:
    classes = set(_classes())
    bases = {base for one in classes for base in one.__mro__[1:]}
    parts = {one: {n for n, f in vars(one).items() if isinstance(f, FunctionType) and _is_open(f)} for one in classes}
    checked = 0
    for used in classes - bases:
        for part in used.__mro__:
            for name in parts.get(part, ()):
                checked += 1
                assert getattr(used, name) is not vars(part)[name], f"{used.__name__} does not say {name}"
    assert checked > 20, "the test looks at something"


def test_parts_that_leave_something_open_are_never_used_themselves() -> None:
    classes = set(_classes())
    bases = {base for one in classes for base in one.__mro__[1:]}
    for one in classes - bases:
        opened = [n for n, f in vars(one).items() if isinstance(f, FunctionType) and _is_open(f)]
        assert not opened, f"{one.__name__} leaves {opened} open, and nothing stands on it"
