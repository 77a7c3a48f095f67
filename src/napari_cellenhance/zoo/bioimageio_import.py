"""A package of the BioImage Model Zoo → a model of the user."""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import (
    CellEnhanceError,
    ManifestError,
    ModelExistsError,
    ParameterError,
    WeightsError,
)
from napari_cellenhance.zoo.bioimageio_package import Package, check_hash, described_network, read_package
from napari_cellenhance.zoo.cache import resolve
from napari_cellenhance.zoo.cards import IMPORTED_SUFFIXES, ModelCard
from napari_cellenhance.zoo.folders import sha256_of

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["AT_STAKE", "OUR_CONFIG", "TrustError", "import_package", "load_imported"]

OUR_CONFIG = "cellenhance"
"""Entry of a description's ``config`` under which our own exports keep their card."""
AT_STAKE = (
    "The weights are a TorchScript file, which is a program: it runs without Python, but it can read and write files "
    "as you can, and what it does cannot be checked before. Import it only if you trust those who made it."
)
_STRENGTH = {
    "default": 1.0, "minimum": 0.0, "maximum": 1.0, "label": "Share",
    "help": "1 shows what the model gives, 0 returns the input unchanged; in between both are blended.",
}  # fmt: skip
_MAX_TEST_PX = 1 << 22


class TrustError(WeightsError):
    """A package whose only weights are a TorchScript program, and nobody said yet that it may run."""


def import_package(
    path: str | os.PathLike[str],
    *,
    model_id: str | None = None,
    channel: int | None = None,
    trust_torchscript: bool = False,
    folder: Path | None = None,
) -> ModelCard:
    """Store the model of a package in the user's models folder.

    Our own exports come back as they were, with their slider. Of others, ONNX weights are taken before TorchScript.
    The same weights can be imported again; another model is never replaced.

    Parameters
    ----------
    path : str or path-like
        The package (zip), as downloaded; it is only read.
    model_id : str or None
        Name in files and commands; None makes one from the title.
    channel : int or None
        Which channel of the result is shown, from 0; None shows all of a network that gives as many as it takes.
    trust_torchscript : bool
        Whether a TorchScript program may be loaded and run; see ``AT_STAKE``.
    folder : Path or None
        None takes the user's models folder.

    Raises
    ------
    TrustError
        Only TorchScript weights, and ``trust_torchscript`` is False.
    WeightsError, ChecksumError
        No or damaged weights, or not those of the description.
    ManifestError
        What the description asks for is not known here; the id is none, or that of a model of the project.
    ModelExistsError
        Another model of the user has that id.
    ParameterError
        ONNX weights, and onnxruntime is not installed.
    WriteError, OSError
        A file cannot be read or written.
    """
    from napari_cellenhance.zoo.manifest import find_own

    source = Path(path)
    package = read_package(source)
    name = str(package.description.get("name") or source.stem)
    wanted = model_id or _slug(name)
    ours = _our_card(package)
    if ours is not None:
        return _import_ours(package, ours, model_id or ours.id, folder)
    kind, data = _weights_of(package, trust_torchscript)
    architecture = described_network(package.description, kind, channel)
    there = find_own(wanted)
    if there is not None and there.file.sha256 != hashlib.sha256(data).hexdigest():
        raise ModelExistsError(wanted)
    card = _card(package, wanted, name, architecture, sha256_of(source))
    card["scores"] = _tried(package, data, card)
    from napari_cellenhance.zoo.weights import save_user_bytes

    return save_user_bytes(data, card, IMPORTED_SUFFIXES[kind], folder=folder)


def load_imported(card: ModelCard) -> bytes:
    """Verified bytes of an imported network; nothing of them is run.

    Raises
    ------
    DownloadError, ChecksumError
        The file is missing, or changed since it was imported.
    """
    return resolve(card.file).read_bytes()


# --- whose weights --------------------------------------------------------------------------


def _weights_of(package: Package, trust_torchscript: bool) -> tuple[str, bytes]:
    weights = package.description["weights"]
    if not isinstance(weights, Mapping):
        raise ManifestError(f"{package.name} describes its weights in a way that is not known")
    is_program_only = "onnx" not in weights and "torchscript" in weights
    if is_program_only and not trust_torchscript:
        raise TrustError(f"{package.name} was not imported. {AT_STAKE}")
    for kind in ("onnx", "torchscript"):
        if isinstance(entry := weights.get(kind), Mapping):
            data = package.file(entry)
            check_hash(data, entry, f"{entry.get('source')} in {package.name}")
            return kind, data
    told = ", ".join(map(str, weights)) or "none"
    raise ManifestError(
        f"{package.name} has the weights {told}; expected TorchScript or ONNX, or a state dict of an architecture of "
        "this plugin. Code of a package, as a PyTorch state dict of others needs it, is never run"
    )


def _our_card(package: Package) -> ModelCard | None:
    from pydantic import ValidationError

    config = package.description.get("config")
    ours = config.get(OUR_CONFIG) if isinstance(config, Mapping) else None
    if not isinstance(ours, Mapping) or "card" not in ours:
        return None
    try:
        return ModelCard.model_validate(ours["card"])
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ManifestError(f"the model card in {package.name} breaks the schema: {place}: {first['msg']}") from error


def _import_ours(package: Package, card: ModelCard, model_id: str, folder: Path | None) -> ModelCard:
    """A state dict of one of our architectures; neither TorchScript nor code is looked at."""
    from napari_cellenhance.zoo.manifest import find_own, load_manifest
    from napari_cellenhance.zoo.weights import save_user_model

    if card.recipe == "bioimageio":
        raise ManifestError(f"{package.name} holds a card of a model that is not of this plugin")
    state = _state_of(package)
    project = {known.id for known in load_manifest().models if known.file.url is not None}
    wanted = f"{model_id}-imported" if model_id in project else model_id
    there = find_own(wanted)
    if there is not None and not _holds(there, state):
        raise ModelExistsError(wanted)
    return save_user_model(state, card.model_copy(update={"id": wanted}).model_dump(), folder=folder)


def _holds(card: ModelCard, state: Mapping[str, Tensor]) -> bool:
    """Whether the weights of a model are these."""
    import torch

    from napari_cellenhance.zoo.weights import parse_state

    try:
        known = parse_state(resolve(card.file).read_bytes(), card.id)
    except (CellEnhanceError, OSError):
        return False  # damaged, or of another kind
    return known.keys() == state.keys() and all(torch.equal(known[name], state[name].to(known[name])) for name in known)


def _state_of(package: Package) -> dict[str, Tensor]:
    from napari_cellenhance.zoo.import_official import open_checkpoint
    from napari_cellenhance.zoo.official_archive import Checkpoint
    from napari_cellenhance.zoo.weights import parse_state

    source = package.description["config"][OUR_CONFIG].get("weights")
    entry = {"source": source} if source else package.description["weights"].get("pytorch_state_dict")
    if entry is None:
        raise WeightsError(f"{package.name} holds a model card without weights for it")
    data = package.file(entry)
    check_hash(data, entry, f"{entry['source']} in {package.name}")
    if str(entry["source"]).endswith(".safetensors"):
        return parse_state(data, f"{entry['source']} in {package.name}")
    return open_checkpoint(Checkpoint(name=str(entry["source"]), strength=0.0, data=data))


# --- its card -------------------------------------------------------------------------------


def _card(package: Package, model_id: str, name: str, architecture: dict[str, Any], digest: str) -> dict[str, Any]:
    told = package.description
    authors = [str(one.get("name", "")) for one in told.get("authors") or [] if isinstance(one, Mapping)]
    cites = [one for one in told.get("cite") or [] if isinstance(one, Mapping)]
    return {
        "id": model_id,
        "title": name,
        "version": _version(told.get("version")),
        "license": str(told.get("license") or "not stated"),
        "citation": "; ".join(str(one.get("text") or one.get("doi") or one.get("url")) for one in cites),
        "summary": " ".join(str(told.get("description") or "A model of the BioImage Model Zoo.").split()),
        "recipe": "bioimageio",
        "architecture": architecture,
        "axes": "ZYX" if "z" in architecture else "YX",
        "normalization": {"name": "fixed", "parameters": {"low": 0.0, "high": 1.0}},
        "strength": _STRENGTH,
        "training": {
            "imported_from": package.name, "sha256_of_package": digest, "authors": authors,
            "format_version": str(told.get("format_version")), "original_id": str(told.get("id") or ""),
        },
    }  # fmt: skip


def _version(value: Any) -> str:
    text = str(value or "")
    return text if re.fullmatch(r"\d+\.\d+(\.\d+)?", text) else "1.0"


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:64].strip("-") or "imported"


def _tried(package: Package, data: bytes, card: Mapping[str, Any]) -> dict[str, Any]:
    """Run the package's own test image; {} where it has none that fits."""
    from napari_cellenhance.core.recipes.imported import NetworkPlan, open_network, run_whole

    plan = NetworkPlan.from_dict(card["architecture"])
    network = open_network(plan.kind, data)
    given, wanted = (_test_tensor(package, key) for key in ("input", "output"))
    if given is None or wanted is None or given.ndim != len(plan.axes_in) or given.size > _MAX_TEST_PX:
        return {}
    try:
        found, expected = run_whole(network, plan, given), plan.shown(wanted)
    except (RuntimeError, ValueError, ParameterError) as error:
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(f"{package.name} cannot run its own test image here ({reason})") from error
    if found.shape != expected.shape:
        raise WeightsError(
            f"{package.name} gives {found.shape} px for its own test image; its authors got {expected.shape}"
        )
    return {"test_image_largest_difference": float(np.abs(found - expected).max())}


def _test_tensor(package: Package, key: str) -> NDArray[np.float32] | None:
    told = package.description
    first = (told.get(f"{key}s") or [{}])[0]
    source = first.get("test_tensor") or ((told.get(f"test_{key}s") or [None])[0])
    if source is None:
        return None
    wanted = source.get("source") if isinstance(source, Mapping) else source
    data = package.files.get(str(wanted))
    if data is None:
        return None
    try:
        return np.asarray(np.load(io.BytesIO(data), allow_pickle=False), np.float32)
    except (ValueError, OSError, EOFError) as error:
        raise WeightsError(f"the test image {wanted} in {package.name} is no plain array ({error})") from error
