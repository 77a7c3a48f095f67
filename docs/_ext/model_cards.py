"""Sphinx extension: a page for every model that comes along, written from ``weights_manifest.json``.

The pages go to ``docs/models/``, which git ignores: the manifest is the one place where a model is described.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

METHOD_PAGES = {
    "nunet": "nunet.md",
    "aep": "aep.md",
    "n2v": "denoise.md",
    "care": "care.md",
    "semantic": "semantic_filter.md",
    "voidseg": "voidseg.md",
    "stardist": "voidseg.md",
}
LONGEST_TABLE = 40


def write_pages(manifest: Path, folder: Path) -> list[str]:
    """Write one page for each model and an index; return their names.

    Parameters
    ----------
    manifest
        ``weights_manifest.json``.
    folder
        Where the pages go; made if missing. Pages of models that are no longer listed are removed.
    """
    models = json.loads(manifest.read_text(encoding="utf-8"))["models"]
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob("*.md"):
        stale.unlink()
    for model in models:
        (folder / f"{model['id']}.md").write_text(_card(model), encoding="utf-8")
    (folder / "index.md").write_text(_index(models), encoding="utf-8")
    return [model["id"] for model in models]


def _index(models: Sequence[Mapping[str, Any]]) -> str:
    rows = "\n".join(
        f"| [{model['title']}]({model['id']}.md) | {model['summary']} | {_megabytes(model)} | {model['license']} |"
        for model in models
    )
    names = "\n".join(model["id"] for model in models)
    return (
        "# Models that come along\n\n"
        "Each was trained by a command of this project on public images. "
        "Cards say with what, for how long, and how it scored on images it never saw.\n\n"
        "| model | what for | size | licence |\n|---|---|---:|---|\n"
        f"{rows}\n\n```{{toctree}}\n:hidden:\n\n{names}\n```\n"
    )


def _card(model: Mapping[str, Any]) -> str:
    training = model.get("training") or {}
    parts = [
        f"# {model['title']}",
        str(model["summary"]),
        f"Method: [{model['recipe']}](../{METHOD_PAGES[model['recipe']]}). After: {model['citation']}.",
        "## For use",
        _facts(
            {
                "id": f"`{model['id']}`",
                "version": model["version"],
                "licence": model["license"],
                "file": f"`{model['file']['name']}`, {_megabytes(model)}",
                "SHA-256": f"`{model['file']['sha256']}`",
                "planes or volumes": f"`{model['axes']}`",
                "objects, px": _interval(model.get("object_diameter_px")),
                "normalisation": _settings(model.get("normalization")),
                "classes": ", ".join(str(name) for name in model.get("classes") or ()),
                "threshold": model.get("threshold"),
            }
        ),
        "## Training",
        _data(training.get("data") or ()),
        _facts(
            {
                "updates": training.get("steps_done"),
                "seed": (training.get("fit") or {}).get("seed"),
                "seconds": training.get("elapsed_s"),
                "hardware": training.get("hardware"),
                "precision": training.get("precision"),
                "torch": training.get("torch"),
                "began with": training.get("init_from"),
                "ended": training.get("finished_utc"),
                "remarks": training.get("notes"),
            }
        ),
        "## Scores on images it never saw",
        _scores(model.get("scores") or {}),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _megabytes(model: Mapping[str, Any]) -> str:
    return f"{model['file']['size_bytes'] / 1e6:.1f} MB"


def _interval(values: Sequence[float] | None) -> str:
    return "" if not values else f"{values[0]:g} to {values[1]:g}"


def _settings(entry: Mapping[str, Any] | None) -> str:
    if not entry:
        return ""
    inside = ", ".join(f"{name} {value}" for name, value in (entry.get("parameters") or {}).items())
    return f"{entry['name']} ({inside})" if inside else str(entry["name"])


def _facts(facts: Mapping[str, Any]) -> str:
    rows = [f"| {name} | {_cell(value)} |" for name, value in facts.items() if value not in (None, "", ())]
    return "\n".join(["| | |", "|---|---|", *rows]) if rows else ""


def _data(entries: Sequence[Mapping[str, Any]] | Mapping[str, Any]) -> str:
    if isinstance(entries, Mapping):  # of crops or movies: numbers, and the names of the images
        facts = {name.removeprefix("n_"): value for name, value in entries.items() if isinstance(value, int | str)}
        return _facts({**facts, "images": len(entries.get("sources") or ()) or None})
    rows = [f"| {_cell(entry.get('name', ''))} | {_cell(entry.get('n_images', ''))} |" for entry in entries]
    return "\n".join(["| images | number |", "|---|---:|", *rows]) if rows else ""


def _scores(scores: Mapping[str, Any]) -> str:
    """Lists of rows become tables, single numbers facts; what is nested deeper stays in the manifest."""
    tables = [_table(value) for value in scores.values() if isinstance(value, list) and value]
    facts = _facts({name: value for name, value in scores.items() if isinstance(value, int | float | str)})
    shown = [part for part in (facts, *tables) if part]
    return "\n\n".join(shown) if shown else "See the page of the method."


def _table(rows: Sequence[Any]) -> str:
    if not all(isinstance(row, dict) for row in rows):
        return ""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    head = f"| {' | '.join(column.replace('_', ' ') for column in columns)} |\n|{'---|' * len(columns)}"
    body = "\n".join(f"| {' | '.join(_cell(row.get(name, '')) for name in columns)} |" for row in rows[:LONGEST_TABLE])
    more = (
        f"\n\n{len(rows) - LONGEST_TABLE} more rows are in `weights_manifest.json`."
        if len(rows) > LONGEST_TABLE
        else ""
    )
    return f"{head}\n{body}{more}"


def _cell(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


def _at_start(app: Sphinx) -> None:
    source = Path(app.srcdir)
    write_pages(source.parent / "weights_manifest.json", source / "models")


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect to Sphinx."""
    app.connect("builder-inited", _at_start)
    return {"parallel_read_safe": True}
