"""Python and numpy values → strict JSON, and JSON read with one kind of error."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["json_ready", "load_json", "parse_json"]


def json_ready(value: Any) -> Any:
    """Copy of ``value`` that strict JSON can hold.

    numpy scalars and arrays become numbers and lists, paths become text, NaN and infinity
    become None (JSON has no word for them), mapping keys become text.

    Raises
    ------
    TypeError
        A value of any other type.

    Examples
    --------
    >>> json_ready({"psnr": np.float32(2.5), "bad": float("nan"), "axes": ("Y", "X")})
    {'psnr': 2.5, 'bad': None, 'axes': ['Y', 'X']}
    """
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (np.generic, np.ndarray)):
        return json_ready(value.tolist())
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {str(key): json_ready(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [json_ready(item) for item in value]
    raise TypeError(f"{type(value).__name__} cannot be stored as JSON; expected numbers, text, lists or dicts")


def parse_json(text: str | bytes) -> Any:
    """Read JSON.

    Raises
    ------
    ValueError
        It is none, or is nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("brackets within brackets, too deep to be read") from error


def load_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file in UTF-8, with or without a byte order mark.

    Raises
    ------
    ValueError
        As for :func:`parse_json`, or not UTF-8.
    OSError
        It cannot be opened.
    """
    return parse_json(Path(path).read_text(encoding="utf-8-sig"))
