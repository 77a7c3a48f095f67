"""Cells of the evaluation of the semantic filter → tables for a person and for programs, and a sheet of pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.io.panel_figures import Picture, pictures_png
from napari_cellenhance.io.reports import write_json
from napari_cellenhance.io.safe_write import atomic_path
from napari_cellenhance.io.tables import write_table
from napari_cellenhance.workflows._evaluate_cells import made_folder
from napari_cellenhance.workflows._evaluate_images import fitted, mean_sd
from napari_cellenhance.workflows._evaluate_semantic_methods import METHODS, NOT_APPLICABLE
from napari_cellenhance.workflows._evaluate_semantic_mixtures import OF_CHANNELS
from napari_cellenhance.workflows._evaluate_semantic_movies import MOVIE_METHODS

if TYPE_CHECKING:
    from napari_cellenhance.workflows.evaluate_semantic import EvaluateSemanticRequest, SemanticEvaluation

__all__ = ["Cell", "markdown", "pictures_of", "rows_of", "write_pictures", "write_tables"]

_LAYERS: Mapping[str, tuple[str, int]] = {
    "psnr": ("wanted: PSNR, dB", 1), "correlation": ("wanted: r", 3), "psnr_rest": ("rest: PSNR, dB", 1),
    "correlation_rest": ("rest: r", 3), "precision": ("P", 2), "recall": ("R", 2), "f1": ("F1", 2),
    "f1_points": ("F1 by points", 2),
}  # fmt: skip
_MOVIES: Mapping[str, tuple[str, int]] = {
    "precision": ("P", 3), "recall": ("R", 3), "f1": ("F1", 3), "iou": ("IoU of all pixels", 3),
    "recall_moving": ("R of what moves", 2), "recall_still": ("R of what never moves", 2),
    "bias_moving": ("left of what moves", 3), "bias_still": ("left of what never moves", 3),
    "scene_error": ("error of the scene", 4),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One method that learned from one data set, and its scores.

    Parameters
    ----------
    part : "mixtures", "channels", "movies" or "files"
    task, method : str
    n_crops : int
        Of each kind; 0 where there are none.
    seed : int
    result : dict
        ``rows`` (scores, by degree of overlap), ``setting``, ``seconds``.
    example : dict of str to ndarray
        To show.
    """

    part: str
    task: str
    method: str
    n_crops: int
    seed: int
    result: dict[str, Any] = field(default_factory=dict)
    example: dict[str, NDArray[Any]] = field(default_factory=dict)


def rows_of(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """One row for each cell and degree of overlap."""
    return [
        {"part": one.part, "task": one.task, "method": one.method, "n_crops": one.n_crops, "seed": one.seed}
        | row | {"setting": one.result.get("setting", ""), "seconds": one.result.get("seconds", math.nan)}
        for one in cells
        for row in one.result.get("rows", [])
    ]  # fmt: skip


def markdown(cells: Sequence[Cell]) -> str:
    """A table for each data set, mean ± standard deviation over seeds; and one by the number of crops."""
    parts = []
    for part, task in dict.fromkeys((one.part, one.task) for one in cells if one.part != "files"):
        rows = rows_of([one for one in cells if (one.part, one.task) == (part, task)])
        most = max(row["n_crops"] for row in rows)
        crops = f", {most} crops of each kind" if most else ""
        n_seeds = len({row["seed"] for row in rows})
        parts.append(f"**{task}**{crops}; mean ± standard deviation over {n_seeds} seed(s)")
        here = [row for row in rows if row["n_crops"] == most]
        parts.append(_of_movies(here) if part == "movies" else _of_mixtures(here))
        if len({row["n_crops"] for row in rows}) > 1:
            parts.append(_by_crops(rows))
    return "\n\n".join(parts) + "\n"


def _of_mixtures(rows: Sequence[Mapping[str, Any]]) -> str:
    titles = [title for title, _ in _LAYERS.values()]
    lines = [f"| overlap | method | {' | '.join(titles)} |", f"|---|---|{'---:|' * len(titles)}"]
    for level in dict.fromkeys(row["level"] for row in rows):
        for method in dict.fromkeys(row["method"] for row in rows):
            same = [row for row in rows if (row["level"], row["method"]) == (level, method)]
            lines.append(
                f"| {OF_CHANNELS.get(level, level)} | {METHODS[method]} | {' | '.join(_means(same, _LAYERS))} |"
            )
    lines += [f"| all | {name} | {why} |{' |' * (len(titles) - 1)}" for name, why in NOT_APPLICABLE.items()]
    return "\n".join(lines)


def _of_movies(rows: Sequence[Mapping[str, Any]]) -> str:
    titles = [title for title, _ in _MOVIES.values()]
    lines = [f"| method | {' | '.join(titles)} |", f"|---|{'---:|' * len(titles)}"]
    for method in dict.fromkeys(row["method"] for row in rows):
        same = [row for row in rows if row["method"] == method]
        lines.append(f"| {MOVIE_METHODS[method]} | {' | '.join(_means(same, _MOVIES))} |")
    return "\n".join(lines)


def _by_crops(rows: Sequence[Mapping[str, Any]]) -> str:
    numbers = sorted({row["n_crops"] for row in rows})
    lines = [
        "r of the wanted layer / F1, mean over the degrees of overlap, by crops of each kind:", "",
        f"| method | {' | '.join(map(str, numbers))} |", f"|---|{'---:|' * len(numbers)}",
    ]  # fmt: skip
    for method in dict.fromkeys(row["method"] for row in rows):
        cells = []
        for n in numbers:
            same = [row for row in rows if (row["method"], row["n_crops"]) == (method, n)]
            means = [f"{np.mean([row[name] for row in same]):.2f}" for name in ("correlation", "f1")] if same else ["–"]
            cells.append(" / ".join(means))
        lines.append(f"| {METHODS[method]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _means(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, tuple[str, int]]) -> list[str]:
    """Cells of a line; a single seed has no scatter."""
    cells = []
    for name, (_, n_digits) in columns.items():
        values = [row[name] for row in rows if not math.isnan(row[name])]
        cells.append(f"{values[0]:.{n_digits}f}" if len(values) == 1 else mean_sd(values, n_digits))
    return cells


def write_tables(result: SemanticEvaluation, request: EvaluateSemanticRequest) -> list[Path]:
    """Write ``scores.json``, ``scores.csv`` and ``scores.md``; what was not scored is left out.

    Raises
    ------
    ParameterError
        Nothing was done.
    WriteError
        The folder or a file in it cannot be written.
    """
    from napari_cellenhance import __version__

    if not result.cells:
        raise ParameterError("nothing was scored, so there is nothing to write")
    folder = made_folder(Path(request.out))
    rows = rows_of(result.cells)
    record = {
        "version": __version__, "is_complete": result.is_complete, "seconds": round(result.seconds, 1),
        "request": asdict(request), "rows": rows,
    }  # fmt: skip
    written = [write_json(folder / "scores.json", record)]
    if rows:
        names = list(dict.fromkeys(name for row in rows for name in row))
        filled = [{name: row.get(name, math.nan) for name in names} for row in rows]
        written += write_table(folder / "scores.csv", filled)
        with atomic_path(folder / "scores.md") as temporary:
            temporary.write_text(markdown(result.cells), encoding="utf-8")
        written.append(folder / "scores.md")
    return written


# --- pictures --------------------------------------------------------------------------------


def pictures_of(cells: Sequence[Cell]) -> dict[str, list[Picture]]:
    """A row for each data set and degree of overlap: the image, the truth, and what every method makes of it."""
    rows: dict[str, list[Picture]] = {}
    for part, task in dict.fromkeys((one.part, one.task) for one in cells):
        same = [one for one in cells if (one.part, one.task) == (part, task) and one.example]
        most = max((one.n_crops for one in same), default=0)
        first = {one.method: one.example for one in same[::-1] if one.n_crops == most}
        shown = {method: first[method] for method in dict.fromkeys(one.method for one in same) if method in first}
        if shown:
            rows |= _ROWS[part](task, shown)
    n_columns = max((len(row) for row in rows.values()), default=0)
    return {name: row + [Picture("", None)] * (n_columns - len(row)) for name, row in rows.items()}


def write_pictures(result: SemanticEvaluation, request: EvaluateSemanticRequest) -> None:
    """Write ``pictures.png``, which takes a few seconds.

    Raises
    ------
    WriteError
        The folder or the file cannot be written.
    """
    pictures = pictures_of(result.cells)
    if pictures:
        pictures_png(made_folder(Path(request.out)) / "pictures.png", pictures)


def _rows_of_mixtures(task: str, shown: Mapping[str, Mapping[str, NDArray[Any]]]) -> dict[str, list[Picture]]:
    rows = {}
    known = next(iter(shown.values()))
    for level in dict.fromkeys(name.partition("/")[0] for name in known):
        image, target = known[f"{level}/image"], known[f"{level}/target"]
        limits = float(np.percentile(target, 0.5)), float(np.percentile(target, 99.8))
        row = [
            Picture("mixture", image, limits=(float(image.min()), float(np.percentile(image, 99.8)))),
            Picture("wanted, true", target, limits=limits),
        ]  # fmt: skip
        for method, example in shown.items():
            if method != "image":
                layer = fitted(example[f"{level}/layer"], target)
                row.append(Picture(METHODS[method], layer, limits=limits))
        if "semantic" in shown:
            rest = image - shown["semantic"][f"{level}/layer"]
            row.append(Picture("semantic filter: the rest", rest))
            row.append(Picture("semantic filter: objects", shown["semantic"][f"{level}/found"] % 20))
        rows[f"{fill(task, 26)}:\n{OF_CHANNELS.get(level, level)}"] = row
    return rows


def _rows_of_movies(task: str, shown: Mapping[str, Mapping[str, NDArray[Any]]]) -> dict[str, list[Picture]]:
    known = next(iter(shown.values()))
    limits = float(np.percentile(known["frame"], 0.5)), float(np.percentile(known["frame"], 99.8))
    row = [
        Picture("frame", known["frame"], limits=limits), Picture("scene, true", known["truth"], limits=limits),
        Picture("objects (white: never move)", (known["labels"] > 0) + 1.0 * known["still"]),
    ]  # fmt: skip
    for method, example in shown.items():
        name = {"median": "median", "own": "filter of these movies"}.get(method, "filter")
        row += [
            Picture(f"{name}: scene", example["scene"], limits=limits),
            Picture(f"{name}: objects", 1.0 * (example["found"] > 0)),
        ]  # fmt: skip
    return {fill(task, 26): row}


def _rows_of_files(task: str, shown: Mapping[str, Mapping[str, NDArray[Any]]]) -> dict[str, list[Picture]]:
    known = next(iter(shown.values()))
    limits = float(np.percentile(known["frame"], 0.5)), float(np.percentile(known["frame"], 99.5))
    row = [Picture(name, known[name], limits=limits) for name in ("frame", "median", "scene")]
    return {fill(task, 26): [*row, Picture("what moves", known["moving"])]}


_ROWS = {
    "mixtures": _rows_of_mixtures, "channels": _rows_of_mixtures, "movies": _rows_of_movies, "files": _rows_of_files,
}  # fmt: skip
