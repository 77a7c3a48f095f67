"""How a result was made, for people and for other programs: plain sentences, Python, a line for the terminal."""

from __future__ import annotations

import json
import os
import pprint
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_cellenhance.workflows._record_files import recipe_with_record
from napari_cellenhance.workflows._targets import SUFFIXES
from napari_cellenhance.workflows.batch_recipe import Recipe, from_record, sentence

__all__ = ["StepText", "as_command", "as_python", "in_words", "save_record", "title_of_result"]

_VERBS = {
    "enhance": "Enhanced", "denoise": "Denoised", "restore": "Restored", "separate": "Taken apart",
    "segment": "Segmented", "synthesize": "Made artificially", "persistence": "Mapped over all strengths",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class StepText:
    """One step in words.

    Parameters
    ----------
    sentence : str
    details : tuple of (str, str)
        What is more to know, by name.
    warnings : tuple of str
        What was said when it was done.
    """

    sentence: str
    details: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...] = ()


def in_words(record: Mapping[str, Any]) -> list[StepText]:
    """Tell a record step by step, the first one first.

    Parameters
    ----------
    record : mapping
        ``metadata['cellenhance']`` of a layer, or the provenance of a file.
    """
    return [_step_in_words(step) for step in reversed(list(_chain(record)))]


def title_of_result(record: Mapping[str, Any]) -> str:
    """The chain in one line, such as “denoise → enhance”."""
    return " → ".join(_word_of(step) for step in reversed(list(_chain(record))))


def _chain(record: Mapping[str, Any] | None) -> Iterator[Mapping[str, Any]]:
    while isinstance(record, Mapping) and record:
        yield record
        record = record.get("earlier")


def _word_of(record: Mapping[str, Any]) -> str:
    return str(record.get("step") or ("enhance" if "filter" in record else "another program"))


def _step_in_words(record: Mapping[str, Any]) -> StepText:
    word = _word_of(record)
    title = record.get("title") or record.get("model") or record.get("filter")
    parts = [f"{_VERBS.get(word, word.capitalize())}{f' with {title}' if title else ''}"]
    if record.get("method") and str(record["method"]) not in str(title):
        parts.append(f" ({record['method']})")
    if record.get("strength_map"):
        parts.append(", strength by region")
    elif isinstance(record.get("strength"), int | float):
        parts.append(f", strength {record['strength']:g}")
    if record.get("objects_are_dark"):
        parts.append(", dark objects")
    if record.get("segment"):
        parts.append(f"; objects labelled ({record['segment'].get('method')})")
    if record.get("objects") or record.get("instances"):
        parts.append("; objects numbered")
    if record.get("region"):
        parts.append("; only a window of each plane (a repetition makes the whole plane)")
    return StepText("".join(parts) + ".", tuple(_details(record)), tuple(map(str, record.get("warnings") or ())))


def _details(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    source, versions = record.get("source") or {}, record.get("versions") or {}
    normalization = record.get("normalization") or {}
    if source:
        shape = " × ".join(map(str, source.get("shape", ())))
        yield "Input", f"“{source.get('name')}”, {shape} ({record.get('axes')}), {source.get('dtype')}"
        yield "Input SHA-256", _hash(source.get("sha256"), source.get("sha256_of"))
    for name, key in (("Model", "model"), ("Version", "version"), ("Weights SHA-256", "sha256")):
        if record.get(key):
            yield name, str(record[key])
    if normalization:
        settings = ", ".join(f"{key} {value}" for key, value in (normalization.get("settings") or {}).items())
        yield "Normalised by", f"{normalization.get('name')}{f' ({settings})' if settings else ''}"
    for name, key in (
        ("Channels", "channels"), ("Statistics of", "statistics"), ("Device", "device"), ("Precision", "precision"),
        ("Tiles, px", "tile_px"), ("Average over turned versions", "symmetries"), ("Applied", "repeats"),
        ("Made (UTC)", "created_utc"), ("Cite", "reference"),
    ):  # fmt: skip
        if record.get(key) not in (None, ""):
            yield name, str(record[key])
    if versions:
        yield "Versions", ", ".join(f"{name} {version}" for name, version in versions.items())


def _hash(sha256: Any, of: Any) -> str:
    return f"{sha256 or 'not known'}{' (of a sample of its pixels)' if of == 'a sample' else ''}"


def save_record(path: str | os.PathLike[str], record: Mapping[str, Any]) -> Path:
    """Write a record with its recipe as JSON, for ``cellenhance run``; replaces a file of that name.

    Raises
    ------
    WriteError
        The folder cannot be written.
    """
    from napari_cellenhance.io.reports import write_json

    return write_json(path, recipe_with_record(record), overwrite=True)


# --- to copy ----------------------------------------------------------------------------------


def as_python(record: Mapping[str, Any]) -> str:
    """Program that makes the same pixels from the first image of the chain.

    Raises
    ------
    ParameterError
        As for :func:`napari_cellenhance.workflows.batch_recipe.from_record`.
    """
    recipe, first = from_record(record), _first(record)
    name, source = _file_of(first), first.get("source") or {}
    settings = "".join(f", {key}={value!r}" for key, value in _machine_of(record, first).items())
    table = pprint.pformat(recipe.to_dict(), sort_dicts=False, width=100)
    return (
        f"# {sentence(recipe)}\n"
        f"# {record.get('statement', '')}\n"
        "from napari_cellenhance import run_recipe\n"
        "from napari_cellenhance.io.images import read\n\n"
        f"recipe = {table}\n\n"
        f"image = read({name!r}).image  # SHA-256 of these pixels: {source.get('sha256') or 'not known'}\n"
        f"result = run_recipe(image, recipe{settings})\n"
        "# result.image, result.labels, result.beside; result.record tells how it was made\n"
    )


def as_command(record: Mapping[str, Any]) -> str:
    """Line for a terminal that makes the same pixels from the first image of the chain.

    Raises
    ------
    ParameterError
        As for :func:`napari_cellenhance.workflows.batch_recipe.from_record`.
    """
    recipe, first = from_record(record), _first(record)
    name = _file_of(first)
    suffix = next((end for end in SUFFIXES if name.lower().endswith(end)), Path(name).suffix)
    words = ["cellenhance", "run", _compact(recipe), name, f"{name.removesuffix(suffix)}_result.ome.tif"]
    for key, value in _machine_of(record, first).items():
        words += [f"--{key}", str(value)]
    return shlex.join(words)


def _compact(recipe: Recipe) -> str:
    return json.dumps(recipe.to_dict(), separators=(",", ":"), ensure_ascii=False)


def _first(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """The earliest step that a recipe repeats."""
    first = record
    for step in _chain(record):
        if "model" not in step and "filter" not in step:
            break
        first = step
    return first


def _file_of(first: Mapping[str, Any]) -> str:
    """Name of the first image, as that of a file."""
    name = str((first.get("source") or {}).get("name") or "image")
    return name if name.lower().endswith(SUFFIXES) else f"{name}.ome.tif"


def _machine_of(record: Mapping[str, Any], first: Mapping[str, Any]) -> dict[str, Any]:
    """Axes of the first image; device and precision of the steps that a network made."""
    found: dict[str, Any] = {"axes": first["axes"]} if first.get("axes") else {}
    for step in _chain(record):
        if step.get("sha256") and step.get("device") and step.get("precision"):
            return found | {"device": step["device"], "precision": step["precision"]}
    return found
