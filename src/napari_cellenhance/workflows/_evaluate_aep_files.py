"""Write an evaluation of AEP: records, tables, text, and a figure for each source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.core.prefilters import NO_FILTER
from napari_cellenhance.io.panel_figures import Picture, pictures_png
from napari_cellenhance.io.reports import write_json
from napari_cellenhance.io.safe_write import atomic_path, safe_name
from napari_cellenhance.io.tables import write_table
from napari_cellenhance.workflows._evaluate_aep_tables import TITLES, gains, markdown
from napari_cellenhance.workflows._evaluate_aep_train import Plan, identity_of, seen_image
from napari_cellenhance.workflows._evaluate_cells import CellStore, made_folder

if TYPE_CHECKING:
    from napari_cellenhance.core.device import DeviceChoice
    from napari_cellenhance.workflows.evaluate_aep import AEPEvaluation, EvaluateAEPRequest

__all__ = ["write_picture", "write_tables"]

Example = Mapping[str, NDArray[Any]]


def write_tables(result: AEPEvaluation, request: EvaluateAEPRequest) -> list[Path]:
    """Write ``scores.json``, ``scores.csv``, ``cells.csv`` and ``scores.md``."""
    from napari_cellenhance import __version__

    if not result.cells:
        raise ParameterError("nothing was scored, so there is nothing to write")
    folder = made_folder(Path(request.out))
    record = {
        "version": __version__,
        "is_complete": result.is_complete,
        "seconds": round(result.seconds, 1),
        "request": asdict(request),
        "rows": result.rows,
        "less_unet": [asdict(gain) for gain in gains(result.cells)],
        "cells": [asdict(cell) for cell in result.cells],
    }
    written = [write_json(folder / "scores.json", record)]
    written += write_table(folder / "scores.csv", result.rows)
    written += write_table(folder / "cells.csv", [cell.as_row() for cell in result.cells])
    text = folder / "scores.md"
    with atomic_path(text) as temporary:
        temporary.write_text(markdown(result.cells), encoding="utf-8")
    return [*written, text]


def write_picture(
    result: AEPEvaluation, request: EvaluateAEPRequest, plan: Plan, store: CellStore, choice: DeviceChoice
) -> Path | None:
    """Draw the first test image of the first fold, one row for each degradation; None where that was not trained."""
    first = [
        cell
        for cell in result.cells
        if (cell.source, cell.prefilter, cell.fold, cell.seed) == (plan.source, NO_FILTER, 0, request.seeds[0])
    ]
    rows = {}
    for degradation in dict.fromkeys(cell.degradation for cell in first):
        here = [cell for cell in first if cell.degradation == degradation]
        examples = {cell.variant: store.example(identity_of(request, plan, cell, choice)) for cell in here}
        rows[degradation] = _row(request, plan, degradation, examples)
    if not rows:
        return None
    path = Path(request.out) / f"{safe_name(plan.source)}.png"
    pictures_png(path, rows)
    return path


def _row(request: EvaluateAEPRequest, plan: Plan, degradation: str, examples: Mapping[str, Example]) -> list[Picture]:
    """Image, degraded image, translated images of the last AEP, segmentations, truth."""
    image, n = plan.images[plan.folds[0].test[0]], len(plan.values)
    seen = seen_image(image, degradation, NO_FILTER, request.split_seed)
    filtered = [e["translated"] for e in examples.values() if e.get("translated", np.zeros(0)).size]
    translated = filtered[-1].astype(np.float32) if filtered else ()
    row = [Picture("image", image.image, limits=(0.0, 1.0)), Picture(degradation, seen, limits=(0.0, 1.0))]
    row += [Picture(f"translated {i + 1}", plane) for i, plane in enumerate(translated)]
    row += [
        Picture(TITLES.get(name, name), examples.get(name, {}).get("labels"), n_classes=n) for name in request.variants
    ]
    return [*row, Picture("truth", image.classes, n_classes=n)]
