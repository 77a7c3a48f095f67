"""Results of single trainings on disk, one file each, so that an evaluation that was stopped goes on where it was.

A result is found again by everything that decides it: data, split, settings. Several programs can fill one folder.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import WriteError
from napari_cellenhance.io.json_ready import json_ready, load_json
from napari_cellenhance.io.reports import write_json
from napari_cellenhance.io.safe_write import atomic_path

__all__ = ["CellStore", "made_folder"]


def made_folder(folder: Path) -> Path:
    """Make a folder if it is missing.

    Raises
    ------
    WriteError
        It cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(f"the folder {folder} could not be made ({error}); choose another one") from error
    return folder


class CellStore:
    """A folder of finished cells.

    Parameters
    ----------
    folder : Path
        Made if missing.

    Raises
    ------
    WriteError
        It cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = made_folder(folder)

    def find(self, identity: Mapping[str, Any]) -> dict[str, Any] | None:
        """Result of that identity; None if there is none, or its file is damaged. What was NaN is NaN again."""
        try:
            stored = load_json(self._path(identity))
            result = stored["result"] if stored["identity"] == json_ready(identity) else None
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return _with_nan(result) if isinstance(result, dict) else None

    def keep(
        self,
        identity: Mapping[str, Any],
        result: Mapping[str, Any],
        example: Mapping[str, NDArray[Any]] | None = None,
    ) -> None:
        """Store a result, and arrays to show; each file is there as a whole or not at all."""
        if example is not None:
            with atomic_path(self._path(identity).with_suffix(".npz")) as temporary, temporary.open("wb") as stream:
                np.savez_compressed(stream, **example)  # type: ignore[arg-type]  # allow_pickle: NumPy 1.26 would store it
        write_json(self._path(identity), {"identity": identity, "result": result})

    def example(self, identity: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        """Arrays that were stored with a result; empty if there are none."""
        try:
            with np.load(self._path(identity).with_suffix(".npz"), allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        except (OSError, ValueError):
            return {}

    def _path(self, identity: Mapping[str, Any]) -> Path:
        text = json.dumps(json_ready(identity), sort_keys=True, ensure_ascii=False)
        return self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:20]}.json"


def _with_nan(value: Any) -> Any:
    """JSON has no NaN; no result here is None otherwise."""
    if value is None:
        return math.nan
    if isinstance(value, dict):
        return {key: _with_nan(item) for key, item in value.items()}
    return [_with_nan(item) for item in value] if isinstance(value, list) else value
