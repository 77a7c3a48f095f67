"""Rename, delete or export a model of the user, or import an exported one; those of the project are left alone.

Only importing needs torch.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from napari_cellenhance.core.errors import ManifestError, ModelExistsError, ParameterError, WriteError
from napari_cellenhance.zoo.cards import ModelCard
from napari_cellenhance.zoo.folders import replace_bytes, user_models_dir
from napari_cellenhance.zoo.manifest import find_model, list_models, user_card_bytes

__all__ = ["delete", "export", "free_id", "import_exported", "is_own", "rename"]


def is_own(card: ModelCard) -> bool:
    """Whether a model is the user's, not the project's."""
    return card.file.url is None


def free_id(model_id: str) -> str:
    """Return an id like this one that no model has."""
    taken, number = {card.id for card in list_models()}, 2
    while f"{model_id}-{number}" in taken:
        number += 1
    return f"{model_id}-{number}"


def rename(model_id: str, title: str) -> ModelCard:
    """Give a model of the user another title; its id, and so every record that names it, stays.

    Raises
    ------
    ModelNotFoundError
        No such model.
    ParameterError
        A model of the project, or an empty title.
    WriteError
        The card cannot be written; it is unchanged.
    """
    card, words = _own(model_id, "renamed"), " ".join(title.split())
    if not words:
        raise ParameterError("a model needs a name; type at least one letter")
    changed = card.model_copy(update={"title": words})
    _write(_card_path(card), user_card_bytes(changed))
    return changed


def delete(model_id: str) -> None:
    """Remove a model of the user, and the folder of its training; after the first step no list shows it any more.

    Raises
    ------
    ModelNotFoundError
        No such model.
    ParameterError
        A model of the project.
    WriteError
        The card cannot be removed; the model is unchanged.
    """
    card = _own(model_id, "deleted")
    try:
        _card_path(card).unlink()
    except OSError as error:
        raise WriteError(f"“{card.title}” cannot be deleted ({error.strerror or error}); it is unchanged") from error
    (user_models_dir() / card.file.name).unlink(missing_ok=True)
    shutil.rmtree(user_models_dir() / "trainings" / card.id, ignore_errors=True)


def export(model_id: str, folder: str | os.PathLike[str]) -> tuple[Path, Path]:
    """Copy weights and card of a model of the user to a folder; in the models folder of another computer they work.

    Returns
    -------
    (Path, Path)
        Weights and card.

    Raises
    ------
    ModelNotFoundError
        No such model.
    ParameterError
        A model of the project; a folder that is not there; a file of that name that is something else.
    WriteError
        The folder cannot be written; nothing half-written stays.
    """
    card, place = _own(model_id, "exported"), Path(folder)
    if not place.is_dir():
        raise ParameterError(f"{place} is no folder; choose one that is there")
    wanted = {
        place / card.file.name: _read(user_models_dir() / card.file.name),
        place / _card_path(card).name: user_card_bytes(card),
    }
    for path, data in wanted.items():
        if path.exists() and _read(path) != data:
            raise ParameterError(f"{path} is there already and is something else; choose another folder")
    for path, data in wanted.items():
        _write(path, data)
    weights, written = wanted
    return weights, written


def import_exported(path: str | os.PathLike[str], *, model_id: str | None = None) -> ModelCard:
    """Import what :func:`export` wrote: a card whose weights lie beside it. Both are checked, and copied.

    Parameters
    ----------
    path : str or path-like
        Of the card.
    model_id : str or None
        Another id than the card's.

    Raises
    ------
    ManifestError
        No card.
    ModelExistsError
        An id that another model has already.
    ChecksumError, WeightsError
        The weights are missing, others, or do not fit the card.
    WriteError
        The models folder cannot be written.
    """
    from napari_cellenhance.zoo.manifest import read_user_card
    from napari_cellenhance.zoo.weights import load_card_file, save_user_model

    if read_user_card(path).recipe == "bioimageio":
        raise ManifestError("a model that came as a package of the zoo is imported from that package, not its card")
    card, module = load_card_file(path)
    wanted = model_id or card.id
    if wanted in {known.id for known in list_models()}:
        raise ModelExistsError(wanted)
    return save_user_model(module.state_dict(), card.model_copy(update={"id": wanted}))


def _own(model_id: str, done: str) -> ModelCard:
    card = find_model(model_id)
    if not is_own(card):
        raise ParameterError(f"“{card.title}” belongs to the plugin and cannot be {done}; only your own models can")
    return card


def _card_path(card: ModelCard) -> Path:
    return user_models_dir() / f"{card.id}.json"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise WriteError(f"{path} cannot be read ({error.strerror or error}); nothing was copied") from error


def _write(path: Path, data: bytes) -> None:
    try:
        replace_bytes(path, data)
    except OSError as error:
        raise WriteError(f"{path} cannot be written ({error.strerror or error}); nothing was changed") from error
