"""Look at the filters on this computer, fetch a model, or import one. Only importing needs torch."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.core.recipes.protocol import FilterInfo
from napari_cellenhance.workflows import catalog
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, Progress, never_cancelled, no_progress
from napari_cellenhance.zoo.cache import DownloadCancelled, find_local, resolve
from napari_cellenhance.zoo.manifest import AssetCard, ModelCard, load_manifest

__all__ = ["ShelfCard", "fetch", "find", "import_archive", "import_file", "list_all"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShelfCard:
    """A filter, and where its weights are.

    Parameters
    ----------
    info : FilterInfo
    card : ModelCard or None
        None for a classical filter.
    path : Path or None
        The verified weights, if they are on this computer.
    """

    info: FilterInfo
    card: ModelCard | None = None
    path: Path | None = None

    @property
    def state(self) -> str:
        """``built in``, ``ready`` (verified) or ``not fetched``."""
        if self.card is None:
            return "built in"
        return "not fetched" if self.path is None else "ready"

    def summary(self) -> dict[str, Any]:
        """JSON-ready, one level."""
        strength = self.info.strength
        return {
            "id": self.info.id, "title": self.info.title, "group": self.info.group, "state": self.state,
            "version": "" if self.card is None else self.card.version,
            "strength_minimum": strength.minimum, "strength_default": strength.default,
            "strength_maximum": strength.maximum,
        }  # fmt: skip

    def details(self) -> dict[str, Any]:
        """JSON-ready: all that is known."""
        known: dict[str, Any] = {
            "id": self.info.id, "title": self.info.title, "group": self.info.group, "summary": self.info.summary,
            "state": self.state, "weights": None if self.path is None else str(self.path),
            "strength": asdict(self.info.strength), "reference": self.info.reference,
        }  # fmt: skip
        return known if self.card is None else known | self.card.model_dump(mode="json")


def list_all() -> tuple[ShelfCard, ...]:
    """All filters in the order of the catalog, then models that only segment; verifies the weights that are here."""
    cards = {card.id: card for card in load_manifest().models}
    infos = catalog.list_filters()
    others = [card for card in cards.values() if card.id not in {info.id for info in infos}]
    return (*(_shelf(info, cards.get(info.id)) for info in infos), *(_shelf(catalog.info_of(c), c) for c in others))


def find(filter_id: str) -> ShelfCard:
    """One filter, or a model that only segments.

    Raises
    ------
    ModelNotFoundError
        No filter of that id; the message lists those there are.
    """
    for card in load_manifest().models:
        if card.id == filter_id:
            return _shelf(catalog.info_of(card), card)
    spec = catalog.describe(filter_id)
    return _shelf(spec.info, spec.card)


def fetch(
    file_id: str, *, on_progress: OnProgress = no_progress, is_cancelled: IsCancelled = never_cancelled
) -> Path | None:
    """Path of the verified weights of a model (or of an asset), downloaded if need be; None after a cancel.

    Raises
    ------
    ModelNotFoundError
        Neither a model nor an asset has that id.
    ParameterError
        A classical filter, which has no weights.
    DownloadError, ChecksumError
        It cannot be had; the message says what to do.
    """
    card = _find_card(file_id)

    def report(n_bytes: int, n_total: int) -> None:
        on_progress(Progress(n_done=n_bytes, n_total=n_total, message=f"Fetching {card.file.name}", is_bytes=True))

    try:
        return resolve(card.file, on_progress=report, is_cancelled=is_cancelled)
    except DownloadCancelled:
        return None


def import_archive(path: str | os.PathLike[str], *, model_id: str = "nunet-authors") -> tuple[ShelfCard, ...]:
    """Convert the archive of trained NU-Nets that the authors publish to models of the user.

    Parameters
    ----------
    path : str or path-like
        ``nunet_models.tar`` or a zip file of the same layout, as downloaded; or one ``.model`` file. It is only read.
    model_id : str
        Name of the model in files and commands. A model of the same name that was imported before is replaced.

    Raises
    ------
    WeightsError
        Not that archive, damaged, or not to be trusted; nothing was stored.
    ModelExistsError
        It is the name of a model that was trained here.
    ManifestError, WriteError
        The name belongs to a model of the project; the models folder cannot be written.
    OSError
        The file cannot be read.
    """
    from napari_cellenhance.zoo.import_official import import_archive as convert

    return tuple(find(card.id) for card in convert(path, model_id=model_id))


def import_file(
    path: str | os.PathLike[str],
    *,
    model_id: str | None = None,
    channel: int | None = None,
    trust_torchscript: bool = False,
) -> tuple[ShelfCard, ...]:
    """Import models from whatever holds them: the authors' archive, a package of the zoo, or a model exported here.

    Parameters
    ----------
    path : str or path-like
        Archive (zip, tar), ``.model`` file, or the card (``.json``) of an exported model with its weights beside it.
    model_id : str or None
        Name of the model in files and commands; None takes the usual one.
    channel, trust_torchscript
        Of packages; see ``bioimageio.import_bioimageio``.

    Raises
    ------
    TrustError
        A package whose only weights are a program, and nobody said that it may run.
    WeightsError, ChecksumError, ManifestError, ParameterError, WriteError, OSError
        As :func:`import_archive`, ``bioimageio.import_bioimageio`` and ``own_models.import_exported``.
    """
    from napari_cellenhance.workflows import bioimageio, own_models

    source = Path(path)
    if source.suffix.lower() == ".json":
        return (find(own_models.import_exported(source, model_id=model_id).id),)
    if source.suffix.lower() != ".model" and bioimageio.is_package(source):
        settings: dict[str, Any] = {"channel": channel, "trust_torchscript": trust_torchscript}
        return (find(bioimageio.import_bioimageio(source, model_id=model_id, **settings)),)
    return import_archive(source, model_id=model_id or "nunet-authors")


def _find_card(file_id: str) -> ModelCard | AssetCard:
    manifest = load_manifest()
    cards: tuple[ModelCard | AssetCard, ...] = (*manifest.models, *manifest.assets)
    for card in cards:
        if card.id == file_id:
            return card
    spec = catalog.describe(file_id)  # names the known filters if there is none of that id
    raise ParameterError(f"{spec.info.id!r} is a classical filter and has no weights; it is ready as it is")


def _shelf(info: FilterInfo, card: ModelCard | None) -> ShelfCard:
    return ShelfCard(info=info, card=card, path=None if card is None else find_local(card.file))
