"""Search good settings for the training of a restoration: every combination of some values, in one table."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from napari_cellenhance.core.errors import CellEnhanceError, ParameterError
from napari_cellenhance.io.json_ready import load_json
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, Progress, never_cancelled, no_progress
from napari_cellenhance.workflows.train_care import CareRequest

__all__ = ["CareSearch", "SearchCareRequest", "run", "to_markdown"]

_DONE = "result.json"
_SCORES = ("mae", "mae_of_input", "within_half_before", "within_half", "factor")


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchCareRequest:
    """Trainings to compare.

    Parameters
    ----------
    base : CareRequest
        What all trainings share; its ``out`` is the folder of the search, and none of its models is installed.
    grid : mapping of str to sequence
        Fields of ``CareRequest`` and the values to try, such as ``{"patch_px": (16, 32, 64)}``.
    """

    base: CareRequest
    grid: Mapping[str, Sequence[Any]] = field(
        default_factory=lambda: {"patch_px": (16, 32, 64), "learning_rate": (2e-4, 4e-4)}
    )

    def __post_init__(self) -> None:
        fixed = {"data", "out", "model_id", "resume", "install", "is_paired", "data_root", "synthesis"}
        known = {one.name for one in dataclasses.fields(CareRequest)} - fixed
        unknown = sorted(set(self.grid) - known)
        if unknown:
            raise ParameterError(
                f"{', '.join(unknown)} cannot be searched; expected some of: {', '.join(sorted(known))}"
            )
        if not self.grid or not all(self.grid.values()):
            raise ParameterError("there is nothing to search; expected settings, each with one value or more")
        for settings in self.combinations():  # a value that makes no request should not be found after an hour
            replace(self.base, **settings)

    def combinations(self) -> list[dict[str, Any]]:
        """Settings of every training, the last name changing fastest."""
        return [dict(zip(self.grid, values, strict=True)) for values in itertools.product(*self.grid.values())]


@dataclass(frozen=True, slots=True, kw_only=True)
class CareSearch:
    """What every training came to.

    Parameters
    ----------
    rows : list of dict
        The settings; ``mae`` and ``mae_of_input`` on whole images that were kept aside, the same for all, in
        normalised units; ``within_half_before`` (share of pixels within σ·ln 2 as trained), ``within_half`` and
        ``factor``; ``seconds``, ``steps``, ``stopped``, ``folder``, and ``problem`` where a training failed.
    """

    rows: list[dict[str, Any]]
    table: Path | None = None
    is_complete: bool = True

    @property
    def best(self) -> dict[str, Any] | None:
        """Row of the smallest error; None where every training failed."""
        good = [row for row in self.rows if not row["problem"]]
        return min(good, key=lambda row: float(row["mae"])) if good else None


def run(
    request: SearchCareRequest,
    *,
    on_progress: OnProgress = no_progress,
    is_cancelled: IsCancelled = never_cancelled,
) -> CareSearch:
    """Train with every combination; write ``search.csv`` and ``search.md`` after each, and go on where one failed.

    A training that the folder holds already, with the same images and settings, is not repeated. One that was cancelled
    leaves no row.

    Raises
    ------
    ImageError, AxesError, ParameterError
        Of the first training: images that cannot be learned from at all.
    WriteError
        The folder cannot be made.
    """
    from napari_cellenhance.workflows._evaluate_cells import made_folder

    out = made_folder(Path(request.base.out))
    rows: list[dict[str, Any]] = []
    table: Path | None = None
    wanted = request.combinations()
    for number, settings in enumerate(wanted):
        prefix = f"Training {number + 1} of {len(wanted)} ({_words(settings)})"

        def tell(progress: Progress, prefix: str = prefix) -> None:
            on_progress(replace(progress, message=f"{prefix}: {progress.message}"))

        row = _known(out, settings, request.base) or _train(out, settings, request.base, tell, is_cancelled, not rows)
        if row is None or is_cancelled():
            return CareSearch(rows=rows, table=table, is_complete=False)
        rows.append(row)
        table = _write(out, rows)
    return CareSearch(rows=rows, table=table)


def _words(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items())


def _folder(out: Path, settings: Mapping[str, Any]) -> Path:
    from napari_cellenhance.io.safe_write import safe_name

    return out / safe_name("_".join(f"{name}-{value}" for name, value in settings.items())).replace(" ", "")


def _fingerprint(settings: Mapping[str, Any], base: CareRequest) -> str:
    """All that decides what the training comes to, as text; of images in memory only their names."""
    request = replace(base, **settings)
    known = {one.name: getattr(request, one.name) for one in dataclasses.fields(request)}
    known["data"] = base.data if not isinstance(base.data, tuple) else [repr(type(one)) for one in base.data]
    for name in ("out", "resume", "n_threads"):
        known.pop(name)
    return json.dumps(known, sort_keys=True, default=str)


def _known(out: Path, settings: Mapping[str, Any], base: CareRequest) -> dict[str, Any] | None:
    """Row of an earlier run; never for images in memory, which may be others."""
    if isinstance(base.data, tuple):
        return None
    try:
        stored = load_json(_folder(out, settings) / _DONE)
    except (OSError, ValueError):
        return None
    if not isinstance(stored, dict) or stored.get("fingerprint") != _fingerprint(settings, base):
        return None
    row = stored.get("row")
    return row if isinstance(row, dict) else None


def _train(
    out: Path,
    settings: Mapping[str, Any],
    base: CareRequest,
    tell: OnProgress,
    is_cancelled: IsCancelled,
    is_first: bool,
) -> dict[str, Any] | None:
    import time

    from napari_cellenhance.io.reports import write_json
    from napari_cellenhance.workflows import train_care

    folder = _folder(out, settings)
    row: dict[str, Any] = {**settings, **dict.fromkeys(_SCORES), "steps": 0, "stopped": "", "problem": ""}
    begun = time.monotonic()
    try:
        result = train_care.run(
            replace(base, **settings, out=folder, install=False, model_id="searched"), on_progress=tell,
            is_cancelled=is_cancelled, is_discarded=is_cancelled,
        )  # fmt: skip
    except CellEnhanceError as error:
        if is_first:  # most likely the images, which all trainings share
            raise
        row |= {"problem": str(error)}
    else:
        if result.stopped == "discarded":
            return None
        row |= {name: result.scores.get(name) for name in _SCORES}
        row |= {"steps": result.best_step, "stopped": result.stopped}
    row |= {"seconds": round(time.monotonic() - begun, 1), "folder": folder.name}
    if not row["problem"]:
        write_json(folder / _DONE, {"fingerprint": _fingerprint(settings, base), "row": row})
    return row


def _write(out: Path, rows: list[dict[str, Any]]) -> Path:
    from napari_cellenhance.io.safe_write import atomic_path
    from napari_cellenhance.io.tables import write_table

    with atomic_path(out / "search.md") as temporary:
        temporary.write_text(to_markdown(CareSearch(rows=rows)) + "\n", encoding="utf-8")
    return write_table(out / "search.csv", rows)[0]


def to_markdown(search: CareSearch) -> str:
    """A table, best error first; the best row in bold."""
    if not search.rows:
        raise ParameterError("nothing was trained, so there is no table")
    row = search.rows[0]
    settings = list(row)[: list(row).index(_SCORES[0])]
    lines = [
        "| " + " | ".join(settings) + " | MAE | MAE of the poor images | within σ·ln 2, as trained | seconds |",
        "|" + "---:|" * (len(settings) + 4),
    ]
    good = sorted((row for row in search.rows if not row["problem"]), key=lambda row: float(row["mae"]))
    for row in good:
        cells = [str(row[name]) for name in settings] + [
            f"{row['mae']:.4f}", f"{row['mae_of_input']:.4f}",
            "—" if row["within_half_before"] is None else f"{row['within_half_before']:.2f}", f"{row['seconds']:.0f}",
        ]  # fmt: skip
        bold = "**" if row is good[0] else ""
        lines.append("| " + " | ".join(f"{bold}{cell}{bold}" for cell in cells) + " |")
    lines += [
        f"| {' | '.join(str(row[name]) for name in settings)} | {row['problem']} | | | |"
        for row in search.rows
        if row["problem"]
    ]
    return "\n".join(lines)
