"""Which models exist: the project's manifest plus the cards in the user's models folder.

Reads JSON only, so that panels, ``--help`` and the list of models open without torch.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from napari_cellenhance.core.errors import ManifestError, ModelNotFoundError
from napari_cellenhance.zoo.cards import (
    SCHEMA_VERSION,
    AssetCard,
    ClassCard,
    FileEntry,
    ManifestFile,
    ModelCard,
    NormalizationCard,
    StrengthCard,
    UserCardFile,
)
from napari_cellenhance.zoo.folders import replace_bytes, user_models_dir

__all__ = [
    "BASE_URL_VARIABLE",
    "MANIFEST_NAME",
    "AssetCard",
    "ClassCard",
    "FileEntry",
    "Manifest",
    "ModelCard",
    "NormalizationCard",
    "StrengthCard",
    "find_asset",
    "find_model",
    "find_own",
    "list_models",
    "load_manifest",
    "manifest_path",
    "read_manifest",
    "read_user_card",
    "user_card_bytes",
    "write_asset",
    "write_entry",
]

MANIFEST_NAME = "weights_manifest.json"
BASE_URL_VARIABLE = "CELLENHANCE_BASE_URL"

_File = TypeVar("_File", bound=BaseModel)
_Card = TypeVar("_Card", ModelCard, AssetCard)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Everything that can be chosen on this computer.

    Parameters
    ----------
    schema_version : int
    base_url : str
        Address that relative URLs are appended to: the environment variable
        ``CELLENHANCE_BASE_URL``, else the manifest's own; empty while the project has no
        public download page.
    models : tuple of ModelCard
        The project's models in manifest order, then the user's by id.
    assets : tuple of AssetCard
    problems : tuple of str
        One sentence for each card of the user that could not be used.
    """

    schema_version: int
    base_url: str
    models: tuple[ModelCard, ...]
    assets: tuple[AssetCard, ...]
    problems: tuple[str, ...] = ()


def manifest_path(package: Path | None = None) -> Path:
    """Path of the manifest: the copy in the package, else the one at the root of the checkout.

    Parameters
    ----------
    package : Path or None
        Folder of this module; only tests give another one.

    Raises
    ------
    ManifestError
        Neither is there.
    """
    folder = package or Path(__file__).resolve().parent
    packaged = folder / MANIFEST_NAME
    if packaged.is_file():
        return packaged
    # zoo → napari_cellenhance → src → root: an editable install has no copy in the package.
    if len(folder.parents) > 2 and (folder.parents[2] / MANIFEST_NAME).is_file():
        return folder.parents[2] / MANIFEST_NAME
    raise ManifestError(
        f"{MANIFEST_NAME} is missing: not in {folder}, and this is not a checkout of the project. "
        "Install napari-cellenhance again."
    )


def read_manifest(path: str | os.PathLike[str]) -> ManifestFile:
    """Read and check one manifest file.

    Raises
    ------
    ManifestError
        Not JSON, of another schema version, or not following the schema; names the field.
    """
    return _read(Path(path), ManifestFile)


def read_user_card(path: str | os.PathLike[str]) -> ModelCard:
    """Read and check one model card of the user.

    Raises
    ------
    ManifestError
        As for :func:`read_manifest`.
    """
    card = _read(Path(path), UserCardFile).model
    if card.file.url is not None:
        raise ManifestError(
            f"{Path(path).name} names a download address; expected url null, as its weights lie beside it"
        )
    return card


def load_manifest(path: str | os.PathLike[str] | None = None, *, user_models: Path | None = None) -> Manifest:
    """Read the project's manifest and the cards of the user.

    Parameters
    ----------
    path : str, path-like, or None
        Another manifest file; None takes :func:`manifest_path`.
    user_models : Path or None
        Another folder of user models; None takes :func:`~napari_cellenhance.zoo.folders.user_models_dir`.

    Returns
    -------
    Manifest
        A damaged card of the user is left out and reported in ``problems``; it never hides the others.

    Raises
    ------
    ManifestError
        The project's own manifest is missing or damaged.
    """
    own = read_manifest(path if path is not None else manifest_path())
    taken = {card.id for card in own.models} | {card.id for card in own.assets}
    models, problems = _read_user_models(user_models or user_models_dir(), taken)
    return Manifest(
        schema_version=own.schema_version,
        base_url=os.environ.get(BASE_URL_VARIABLE, "").strip() or own.base_url,
        models=own.models + models,
        assets=own.assets,
        problems=problems,
    )


def list_models() -> tuple[ModelCard, ...]:
    """All models of :func:`load_manifest`."""
    return load_manifest().models


def find_model(model_id: str) -> ModelCard:
    """Card of a model.

    Raises
    ------
    ModelNotFoundError
        No such id; the message lists the ids there are.
    """
    manifest = load_manifest()
    return _find(model_id, manifest.models, "model", manifest.problems)


def find_own(model_id: str) -> ModelCard | None:
    """Card of a model of the user; None where there is none of that id."""
    return next((card for card in list_models() if card.id == model_id and card.file.url is None), None)


def find_asset(asset_id: str) -> AssetCard:
    """Card of an asset.

    Raises
    ------
    ModelNotFoundError
        No such id; the message lists the ids there are.
    """
    return _find(asset_id, load_manifest().assets, "asset", ())


def write_entry(path: str | os.PathLike[str], card: ModelCard, *, is_first: bool = False) -> None:
    """Add a model to a manifest file, or replace the one of the same id; atomic.

    Parameters
    ----------
    is_first : bool
        Put it before all others: lists of filters begin with it. Otherwise it keeps its place, or comes last.

    Raises
    ------
    ManifestError
        The file is damaged, or would be with this card (an id or file name twice); it is unchanged.
    OSError
        It cannot be written; it is unchanged.
    """
    own = read_manifest(path)
    models = _with_card(own.models, card)
    if is_first:
        models = (card, *(m for m in models if m.id != card.id))
    _rewrite(Path(path), own, models=models)


def write_asset(path: str | os.PathLike[str], card: AssetCard) -> None:
    """Add an asset to a manifest file, or replace the one of the same id; atomic.

    Raises
    ------
    ManifestError, OSError
        As for :func:`write_entry`.
    """
    own = read_manifest(path)
    _rewrite(Path(path), own, assets=_with_card(own.assets, card))


def user_card_bytes(card: ModelCard) -> bytes:
    """JSON of a user's model card, as :func:`read_user_card` reads it."""
    return _dump(UserCardFile(schema_version=SCHEMA_VERSION, model=card))


def _find(wanted: str, cards: tuple[_Card, ...], what: str, problems: tuple[str, ...]) -> _Card:
    for card in cards:
        if card.id == wanted:
            return card
    known = ", ".join(card.id for card in cards) or "none"
    hint = f" Cards that could not be read: {' '.join(problems)}" if problems else ""
    raise ModelNotFoundError(f"there is no {what} {wanted!r}; there is: {known}.{hint}")


def _with_card(cards: tuple[_Card, ...], card: _Card) -> tuple[_Card, ...]:
    changed = [card if old.id == card.id else old for old in cards]
    if card not in changed:
        changed.append(card)
    return tuple(changed)


def _rewrite(path: Path, own: ManifestFile, **changes: Any) -> None:
    try:
        # model_copy does not validate; dump and validate again so that no bad file is ever written.
        changed = ManifestFile.model_validate(own.model_copy(update=changes).model_dump())
    except ValidationError as error:
        raise ManifestError(f"{path.name} cannot take this card: {_first_problem(error)}") from error
    replace_bytes(path, _dump(changed))


def _dump(model: BaseModel) -> bytes:
    return (json.dumps(model.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n").encode("utf-8")


def _read_user_models(folder: Path, taken: set[str]) -> tuple[tuple[ModelCard, ...], tuple[str, ...]]:
    models: list[ModelCard] = []
    problems: list[str] = []
    try:
        paths = sorted(folder.glob("*.json")) if folder.is_dir() else []
    except OSError as error:
        return (), (f"The models folder {folder} cannot be read ({error.strerror}).",)
    for path in paths:
        try:
            card = read_user_card(path)
        except ManifestError as error:
            problems.append(f"Model card left out: {error}")
            continue
        if card.id in taken:
            problems.append(f"Model card left out: {path.name} uses the id {card.id!r}, which exists already.")
            continue
        if not (folder / card.file.name).is_file():
            problems.append(f"Model card left out: {path.name} needs {card.file.name}, which is not in {folder}.")
            continue
        taken.add(card.id)
        models.append(card)
    return tuple(sorted(models, key=lambda card: card.id)), tuple(problems)


def _read(path: Path, schema: type[_File]) -> _File:
    try:
        raw = json.loads(path.read_bytes().decode("utf-8"), parse_constant=_refuse_constant)
    except OSError as error:
        raise ManifestError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{path} is not valid JSON: {error}") from error
    version = raw.get("schema_version") if isinstance(raw, dict) else None
    if isinstance(version, int) and version != SCHEMA_VERSION:
        raise ManifestError(
            f"{path.name} has the schema version {version}; this napari-cellenhance reads version "
            f"{SCHEMA_VERSION}. Update napari-cellenhance, or use an older file."
        )
    try:
        return schema.model_validate(raw)
    except ValidationError as error:
        raise ManifestError(f"{path.name} does not follow the schema: {_first_problem(error)}") from error


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number of JSON")


def _first_problem(error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"]) or "the file"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{place}: {first['msg'].removeprefix('Value error, ')}{more}"
