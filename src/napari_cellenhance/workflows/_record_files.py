"""How a result was made, as a JSON file beside it: read by people, and by ``cellenhance run``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from napari_cellenhance.core.errors import CellEnhanceError
from napari_cellenhance.workflows._targets import SUFFIXES
from napari_cellenhance.workflows.batch_recipe import from_record

__all__ = ["recipe_with_record", "record_path", "write_record_beside"]


def record_path(path: Path) -> Path:
    """File beside a result that tells how it was made: ``cells.ome.tif`` → ``cells.recipe.json``."""
    endings = (".ome.zarr", ".zarr", *SUFFIXES)
    suffix = next((s for s in endings if path.name.lower().endswith(s)), path.suffix)
    return path.with_name(f"{path.name[: len(path.name) - len(suffix)]}.recipe.json")


def recipe_with_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """Recipe of a result with its record; the record alone where it cannot be repeated (strengths by region)."""
    try:
        return from_record(record).to_dict() | {"record": dict(record)}
    except CellEnhanceError:
        return dict(record)


def write_record_beside(path: Path, record: Mapping[str, Any]) -> Path:
    """Write how a result was made beside it; replaces what told of an earlier one of this name.

    Raises
    ------
    WriteError
        The folder cannot be written.
    """
    from napari_cellenhance.io.reports import write_json

    return write_json(record_path(path), recipe_with_record(record), overwrite=True)
