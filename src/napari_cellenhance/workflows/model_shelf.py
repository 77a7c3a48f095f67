"""All models as rows and cards for people to choose from. Costs a look at the disk for each; hashes and opens none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from napari_cellenhance.zoo.cards import SEGMENTING, FileEntry, ModelCard
from napari_cellenhance.zoo.folders import bundled_dir, cache_dir, user_models_dir
from napari_cellenhance.zoo.manifest import load_manifest

__all__ = ["METHODS", "PLACES", "Row", "card_sections", "list_rows", "place_of", "score_line"]

METHODS: Final[Mapping[str, str]] = {
    "nunet": "NU-Net", "n2v": "Noise2Void", "care": "CARE", "semantic": "Semantic filter", "aep": "AEP",
    "voidseg": "VoidSeg", "stardist": "StarDist", "bioimageio": "BioImage.IO",
}  # fmt: skip
PLACES: Final = ("comes along", "fetched", "yours", "not here yet")
_SCORES: Final = (
    ("mean_iou", "IoU"), ("ap", "AP"), ("f1", "F1"), ("psnr", "PSNR"), ("mae", "MAE"),
    ("validation_loss", "validation loss"), ("blind_spot_error", "blind-spot error"),
    ("test_image_largest_difference", "own test image ±"),
)  # fmt: skip
_MOST_LINES = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A model in one line.

    Parameters
    ----------
    card : ModelCard
    method : str
        A value of ``METHODS``.
    place : str
        One of ``PLACES``.
    score : str
        Its first measured number, or an empty string.
    """

    card: ModelCard
    method: str
    place: str
    score: str

    @property
    def size_mb(self) -> float:
        """Of the weights."""
        return self.card.file.size_bytes / 1e6

    def matches(self, text: str) -> bool:
        """Whether every word of a search is in title, id, method, summary or licence."""
        card = self.card
        where = f"{card.title} {card.id} {self.method} {card.summary} {card.license} {self.place}".lower()
        return all(word in where for word in text.lower().split())


def list_rows(cache_folder: str = "") -> tuple[tuple[Row, ...], tuple[str, ...]]:
    """All models, those of the project first, and a sentence for each card of the user that cannot be used."""
    manifest = load_manifest()
    rows = tuple(
        Row(
            card=card, method=METHODS.get(card.recipe, card.recipe), place=place_of(card.file, cache_folder),
            score=score_line(card.scores, card.id),
        )
        for card in manifest.models
    )  # fmt: skip
    return rows, manifest.problems


def place_of(entry: FileEntry, cache_folder: str = "") -> str:
    """Where a model's weights are, told by name and size; whether they are right is looked at before they are used."""
    if entry.url is None:
        return "yours" if _is_there(user_models_dir(), entry) else "not here yet"
    if _is_there(bundled_dir(), entry):
        return "comes along"
    return "fetched" if _is_there(cache_dir(cache_folder or None), entry) else "not here yet"


def score_line(scores: Mapping[str, Any], model_id: str = "") -> str:
    """Give the first number of a card that says how good a model is.

    >>> score_line({"iou": [0.9, 0.8], "mean_iou": 0.85})
    'IoU 0.85'
    """
    rows, test = scores.get("rows"), scores.get("test")
    for one in rows if isinstance(rows, list) else ():
        if isinstance(one, Mapping) and one.get("filter_id") == model_id and isinstance(one.get("fold"), (int, float)):
            return f"contrast ×{one['fold']:.2g}"
    for one in test if isinstance(test, list) else ():
        if isinstance(one, Mapping) and isinstance(one.get("psnr_model"), (int, float)):
            return f"PSNR {one['psnr_model']:.1f} dB"
    for key, name in _SCORES:
        value = scores.get(key)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return f"{name} {value:.3g}"
    return ""


def card_sections(card: ModelCard) -> tuple[tuple[str, tuple[tuple[str, str], ...]], ...]:
    """What a person wants to know of a model: headings, each with names and values."""
    sizes = card.object_diameter_px
    objects = "not stated" if sizes is None else f"{sizes[0]:g} to {sizes[1]:g} px across"
    general = [
        ("Method", METHODS.get(card.recipe, card.recipe)), ("Version", card.version),
        ("Images", "single planes" if card.axes == "YX" else "volumes"), ("Objects", objects),
        ("Licence", card.license), ("Cite", card.citation or "not stated"),
    ]  # fmt: skip
    if card.recipe in SEGMENTING:
        general.insert(4, ("Classes", ", ".join(f"{one.value} {one.name}" for one in card.classes)))
    file = [("Name", card.file.name), ("Size", f"{card.file.size_bytes / 1e6:.1f} MB"), ("SHA-256", card.file.sha256)]
    parts = (
        ("About", general), ("Trained on", list(_flat(card.training))), ("Scores", list(_flat(card.scores))),
        ("File", file),
    )  # fmt: skip
    return tuple((title, _cut(lines)) for title, lines in parts if lines)


def _cut(lines: list[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    more = len(lines) - _MOST_LINES
    return (*lines[:_MOST_LINES], ("…", f"{more} more; 'cellenhance models show' lists all")) if more > 0 else (*lines,)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        name = f"{prefix}{key.replace('_', ' ')}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}: ")
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            for number, one in enumerate(value, start=1):
                yield name if len(value) == 1 else f"{name} {number}", _in_words(one)
        elif value not in ("", None, []):
            yield name, _text(value)


def _in_words(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key.replace('_', ' ')} {_text(value)}" for key, value in values.items())


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = ", ".join(map(_text, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 200 else f"{text[:200]}…"


def _is_there(folder: Path, entry: FileEntry) -> bool:
    try:
        return (folder / entry.name).stat().st_size == entry.size_bytes
    except OSError:
        return False
