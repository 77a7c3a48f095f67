"""The settings of a training, kept beside its checkpoint, so that it can be resumed without asking for them again."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.io.json_ready import load_json
from napari_cellenhance.io.safe_write import atomic_path

__all__ = ["CHECKPOINT", "recall", "remember"]

CHECKPOINT = "checkpoint.safetensors"
SETTINGS = "settings.json"


def remember(folder: str | os.PathLike[str], request: object, fields: Sequence[str]) -> None:
    """Write fields of a request; the file is there as a whole or not at all."""
    stored = {name: getattr(request, name) for name in fields}
    with atomic_path(Path(folder) / SETTINGS) as temporary:
        temporary.write_text(json.dumps(stored, indent=2, ensure_ascii=False), encoding="utf-8")


def recall(folder: str | os.PathLike[str], fields: Sequence[str]) -> dict[str, Any]:
    """Read them again; lists among the ``recipe_options`` become tuples.

    Raises
    ------
    ParameterError
        The folder keeps no settings that can be read.
    """
    path = Path(folder) / SETTINGS
    try:
        stored = load_json(path)
        known = {name: stored[name] for name in fields}
        options = {k: tuple(v) if isinstance(v, list) else v for k, v in known["recipe_options"].items()}
        return known | {"recipe_options": options}
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ParameterError(
            f"{path} does not say with which settings the training began ({error}); train anew, under another name"
        ) from error
