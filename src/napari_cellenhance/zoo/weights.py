"""safetensors ↔ state dict ↔ network. Nothing is ever unpickled."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from napari_cellenhance.core.errors import ChecksumError, ManifestError, WeightsError, WriteError
from napari_cellenhance.core.models.build import build
from napari_cellenhance.zoo.cache import resolve
from napari_cellenhance.zoo.cards import FileEntry, ModelCard
from napari_cellenhance.zoo.folders import replace_bytes, sha256_of, user_models_dir
from napari_cellenhance.zoo.manifest import load_manifest, read_user_card, user_card_bytes

__all__ = [
    "load_card_file", "load_model", "load_state", "parse_state", "read_metadata", "save_state", "save_user_bytes",
    "save_user_model", "sha256_of",
]  # fmt: skip

_EXACT = (".running_mean", ".running_var")
"""Statistics of frozen norms keep 32 bits: a variance may exceed what 16 hold."""
_SUFFIX = ".safetensors"
_HEADER_LIMIT = 100_000_000
"""Largest header that safetensors accepts, in bytes."""


def load_state(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read a safetensors file; floats of any width come back as float32, on the CPU.

    Raises
    ------
    WeightsError
        Not safetensors, damaged, or holding NaN or infinity.
    OSError
        The file cannot be read.
    """
    # Bytes, not a memory map: no lock on Windows, and any unicode path works.
    return parse_state(Path(path).read_bytes(), str(path))


def parse_state(data: bytes, source: str) -> dict[str, Tensor]:
    """As :func:`load_state`, of bytes; ``source`` names them in messages."""
    try:
        state = safetensors.torch.load(data)
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise WeightsError(
            f"{source} is not a whole safetensors file ({error}). Fetch or train the model again; files of other "
            "kinds (.pt, .pth, .ckpt, .pkl) are never opened, since they can run code."
        ) from error
    loaded = {name: t.to(torch.float32) if t.is_floating_point() else t for name, t in state.items()}
    bad = [name for name, t in loaded.items() if t.is_floating_point() and not bool(torch.isfinite(t).all())]
    if bad:
        raise WeightsError(f"{source} holds NaN or infinite weights (first in {bad[0]!r}) and cannot be used")
    return loaded


def read_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Metadata that :func:`save_state` wrote, decoded from JSON; {} where there is none.

    Raises
    ------
    WeightsError
        Not a safetensors file.
    OSError
        The file cannot be read.
    """
    source = Path(path)
    with open(source, "rb") as stream:
        n_header = int.from_bytes(stream.read(8), "little")
        raw = stream.read(n_header) if n_header <= _HEADER_LIMIT else b""
    try:
        header = json.loads(raw.decode("utf-8"))
        stored = header.get("__metadata__", {})
        return {str(key): _from_text(str(value)) for key, value in stored.items()}
    except (ValueError, AttributeError, RecursionError) as error:
        raise WeightsError(f"{source} is not a safetensors file (its header cannot be read)") from error


def save_state(
    path: str | os.PathLike[str],
    state: Mapping[str, Tensor],
    *,
    half: bool = False,
    metadata: Mapping[str, Any] | None = None,
) -> Path:
    """Write a state dict as safetensors; an existing file is replaced only when all is written.

    Parameters
    ----------
    path : str or path-like
        Ends in ``.safetensors``.
    state : mapping of str to Tensor
        Any device and layout; never changed.
    half : bool
        Store floats as float16 (half the size). Refused if a weight would overflow.
    metadata : mapping or None
        JSON-ready values, kept in the header.

    Raises
    ------
    WeightsError
        Wrong suffix, nothing to store, NaN or infinity, or a weight beyond float16.
    WriteError
        Disk full, no permission…
    """
    target = Path(path)
    if target.suffix != _SUFFIX:
        raise WeightsError(f"weights are written as {_SUFFIX} only; got {target.name!r}")
    if not state:
        raise WeightsError("there are no weights to store")
    header = {key: json.dumps(value, ensure_ascii=False) for key, value in (metadata or {}).items()}
    data = safetensors.torch.save({name: _storable(name, t, half) for name, t in state.items()}, metadata=header)
    _write(target, data)
    return target


def load_model(
    card: ModelCard,
    *,
    cache: Path | None = None,
    base_url: str | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    is_cancelled: Callable[[], bool] | None = None,
    allow_download: bool = True,
) -> nn.Module:
    """Network of a card with its verified weights, float32 on the CPU, in eval mode.

    Raises
    ------
    ManifestError
        The architecture is unknown to this version.
    WeightsError
        The weights are damaged or do not fit the architecture.
    DownloadError, ChecksumError
        As for :func:`napari_cellenhance.zoo.cache.resolve`.
    """
    module = build(card.architecture)
    path = resolve(
        card.file,
        cache=cache,
        base_url=base_url,
        on_progress=on_progress,
        is_cancelled=is_cancelled,
        allow_download=allow_download,
    )
    try:
        module.load_state_dict(load_state(path), strict=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise WeightsError(
            f"the weights {card.file.name} do not fit the architecture {card.architecture['name']!r} "
            f"of the model {card.id!r}: {reason}"
        ) from error
    return module.eval()


def load_card_file(path: str | os.PathLike[str]) -> tuple[ModelCard, nn.Module]:
    """Card in a JSON file anywhere on disk, and its network with the weights beside it, as trainings leave them.

    Raises
    ------
    ManifestError
        The file is no card, or its architecture is unknown to this version.
    ChecksumError
        The weights are missing or not those of the card.
    WeightsError
        They do not fit the architecture.
    """
    card = read_user_card(path)
    weights = Path(path).parent / card.file.name
    if not weights.is_file() or sha256_of(weights) != card.file.sha256:
        raise ChecksumError(
            f"the weights {card.file.name} are not beside the card {Path(path).name}, or not those that it describes; "
            "keep the two files of a training together"
        )
    module = build(card.architecture)
    try:
        module.load_state_dict(load_state(weights), strict=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise WeightsError(
            f"the weights {card.file.name} do not fit the architecture of their card: {reason}"
        ) from error
    return card, module.eval()


def save_user_model(
    state: Mapping[str, Tensor],
    card: Mapping[str, Any] | ModelCard,
    *,
    half: bool = False,
    folder: Path | None = None,
) -> ModelCard:
    """Store a trained model and its card in the user's models folder.

    Parameters
    ----------
    state : mapping of str to Tensor
        Must fit the architecture of the card.
    card : mapping or ModelCard
        All fields of :class:`~napari_cellenhance.zoo.cards.ModelCard`; ``file`` and ``bundled``
        are set here. A model of the same id in the folder is replaced, and stays whole until
        the new one is: the weights get a new name, then the card is swapped.
    folder : Path or None
        None takes :func:`~napari_cellenhance.zoo.folders.user_models_dir`.

    Returns
    -------
    ModelCard
        As :func:`~napari_cellenhance.zoo.manifest.find_model` returns it from now on.

    Raises
    ------
    ManifestError
        The card breaks the schema, or its id is one of the project's own models.
    WeightsError
        The weights do not fit the architecture, or are NaN.
    WriteError
        The folder cannot be written.
    """
    place = folder or user_models_dir()
    draft = _draft(card.model_dump() if isinstance(card, ModelCard) else card, place, _SUFFIX)
    _check_fit(draft, state)
    data = safetensors.torch.save(
        {name: _storable(name, t, half) for name, t in state.items()},
        metadata={"id": json.dumps(draft.id), "version": json.dumps(draft.version)},
    )
    return _swap_in(place, draft, data, _SUFFIX)


def save_user_bytes(data: bytes, card: Mapping[str, Any], suffix: str, *, folder: Path | None = None) -> ModelCard:
    """Store weights of another kind as they are, and their card, in the user's models folder.

    Parameters
    ----------
    data : bytes
        Not opened here.
    card : mapping
        As in :func:`save_user_model`, of the recipe ``bioimageio``.
    suffix : str
        One of ``cards.IMPORTED_SUFFIXES``, as the card's architecture asks for.

    Raises
    ------
    ManifestError, WriteError
        As :func:`save_user_model`.
    """
    place = folder or user_models_dir()
    return _swap_in(place, _draft(card, place, suffix), data, suffix)


def _draft(card: Mapping[str, Any], place: Path, suffix: str) -> ModelCard:
    """Validate before any byte is written; the placeholder file is replaced later."""
    own = load_manifest(user_models=place)
    own_ids = {known.id for known in own.models if known.file.url is not None} | {asset.id for asset in own.assets}
    if card.get("id", "") in own_ids:
        raise ManifestError(f"the id {card['id']!r} belongs to a model of the project; choose another name")
    return _validated(dict(card), FileEntry(name=f"x{suffix}", url=None, sha256="0" * 64, size_bytes=1))


def _swap_in(place: Path, draft: ModelCard, data: bytes, suffix: str) -> ModelCard:
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(f"the models folder {place} cannot be made ({error.strerror}); nothing was stored") from error
    digest = hashlib.sha256(data).hexdigest()
    name = f"{draft.id}-{digest[:12]}{suffix}"
    finished = draft.model_copy(
        update={"file": FileEntry(name=name, url=None, sha256=digest, size_bytes=len(data)), "bundled": False}
    )
    card_path = place / f"{draft.id}.json"
    old_name = _old_weights(card_path)
    _write(place / name, data)
    _write(card_path, user_card_bytes(finished))
    if old_name not in (None, name):
        (place / str(old_name)).unlink(missing_ok=True)
    return finished


def _old_weights(card_path: Path) -> str | None:
    if not card_path.is_file():
        return None
    try:
        return read_user_card(card_path).file.name
    except ManifestError:
        return None  # a damaged card says nothing reliable about what may be deleted


def _validated(fields: dict[str, Any], entry: FileEntry) -> ModelCard:
    try:
        return ModelCard.model_validate({**fields, "file": entry, "bundled": False})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ManifestError(f"the model card is not complete: {place}: {first['msg']}") from error


def _check_fit(card: ModelCard, state: Mapping[str, Tensor]) -> None:
    wanted = {name: tuple(t.shape) for name, t in build(card.architecture).state_dict().items()}
    got = {name: tuple(t.shape) for name, t in state.items()}
    if wanted != got:
        odd = min({*wanted.items()} ^ {*got.items()})
        raise WeightsError(
            f"the weights do not fit the architecture {card.architecture['name']!r}: first difference at {odd[0]!r}"
        )


def _storable(name: str, tensor: Tensor, half: bool) -> Tensor:
    # A copy of its own: safetensors refuses shared or strided memory.
    stored = tensor.detach().to("cpu").clone(memory_format=torch.contiguous_format)
    if not stored.is_floating_point():
        return stored
    if not bool(torch.isfinite(stored).all()):
        raise WeightsError(f"the weights {name!r} hold NaN or infinity; the training diverged")
    if half and not name.endswith(_EXACT):
        stored = stored.to(torch.float16)
        if not bool(torch.isfinite(stored).all()):
            raise WeightsError(f"the weights {name!r} exceed 65504 and cannot be stored in 16 bits; use half=False")
    return stored


def _write(target: Path, data: bytes) -> None:
    try:
        replace_bytes(target, data)
    except OSError as error:
        raise WriteError(f"{target} could not be written ({error.strerror or error}); nothing was changed") from error


def _from_text(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text  # a file of someone else holds plain words where ours hold JSON
