"""Checkpoints of the authors' archive → networks, weights and cards in the user's models folder."""

from __future__ import annotations

import io
import os
import pickle
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from napari_cellenhance.core.errors import ModelExistsError, WeightsError
from napari_cellenhance.zoo.cards import ModelCard
from napari_cellenhance.zoo.folders import sha256_of
from napari_cellenhance.zoo.official_archive import Checkpoint, check_is_small, families, read_archive

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["CITATION", "LICENSE", "import_archive", "map_state", "open_checkpoint"]

LICENSE = "as published by the authors; not distributed here"
CITATION = "Lim et al., NU-Net: a self-supervised smart filter for enhancing blobs in bioimages, ICCVW 2023"
_DEMONSTRATED = 8.0
"""Strength of the demonstrations in the paper; the default where the checkpoints reach it."""
_UNREADABLE = (
    pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError, AttributeError, TypeError, OSError,
)  # fmt: skip


def import_archive(
    path: str | os.PathLike[str], *, model_id: str = "nunet-authors", folder: Path | None = None
) -> list[ModelCard]:
    """Convert every family of checkpoints to one model whose slider blends them.

    Parameters
    ----------
    path : str or path-like
        The archive as it was downloaded, or one ``.model`` file.
    model_id : str
        Name of the model in files and commands; with several families, the folder's name is added.
    folder : Path or None
        None takes the user's models folder.

    Returns
    -------
    list of ModelCard
        As stored.

    Raises
    ------
    WeightsError
        As for ``official_archive.read_archive``, or a checkpoint that is no NU-Net.
    ManifestError
        ``model_id`` is no id, or belongs to a model of the project.
    ModelExistsError
        It belongs to a model that was trained here.
    WriteError
        The models folder cannot be written.
    """
    from napari_cellenhance.zoo.manifest import find_own
    from napari_cellenhance.zoo.weights import save_user_model

    source = Path(path)
    found = families(read_archive(source))
    digest = sha256_of(source)
    # All are converted before any is stored: a broken checkpoint leaves nothing behind.
    ready = [
        (_state_of(family), _card(family, model_id if len(found) == 1 else f"{model_id}-{_slug(name)}", source, digest))
        for name, family in found.items()
    ]
    for _, card in ready:
        there = find_own(card["id"])
        if there is not None and "imported_from" not in there.training:
            raise ModelExistsError(card["id"])  # it was trained here, and cannot be had again
    return [save_user_model(state, card, folder=folder) for state, card in ready]


def open_checkpoint(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Tensors of a checkpoint, by name, in the order in which they were stored; runs nothing of it.

    Raises
    ------
    WeightsError
        Not a torch checkpoint, one that holds more than tensors and plain values, or one without weights.
    """
    import torch

    check_is_small(checkpoint.data, checkpoint.name)
    try:
        loaded = torch.load(io.BytesIO(checkpoint.data), map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        reason = " ".join(str(error).split())[:160]
        raise WeightsError(
            f"{checkpoint.name} cannot be read as plain weights ({reason}). Files that need code to be run are never "
            "opened; download the archive again"
        ) from error
    state = loaded.get("state_dict", loaded) if isinstance(loaded, Mapping) else None
    if not isinstance(state, Mapping) or not state or not all(isinstance(t, torch.Tensor) for t in state.values()):
        raise WeightsError(f"{checkpoint.name} holds no 'state_dict' of weights; expected a checkpoint of NU-Net")
    return {str(name): tensor for name, tensor in state.items()}


def map_state(state: Mapping[str, Tensor], what: str) -> dict[str, Tensor]:
    """Weights of a published NU-Net under the names of ``core.models.nunet.NUNet``.

    Names decide nothing: convolutions are told by their four dimensions, norms by one, and both are taken in the
    order in which they are stored. Running statistics are dropped: the norms have none.

    Parameters
    ----------
    state : mapping of str to Tensor
        Each layer as ``….weight`` and ``….bias``.
    what : str
        Name of the file, for messages.

    Raises
    ------
    WeightsError
        Another number of layers, a bias that is missing, or a shape that differs.
    """
    from napari_cellenhance.core.models.nunet import NUNet

    wanted = NUNet().state_dict()
    mapped: dict[str, Tensor] = {}
    for kind, n_dims in (("convolutions", 4), ("norms", 1)):
        ours = [name for name, t in wanted.items() if name.endswith(".weight") and t.dim() == n_dims]
        # Running means, variances and counters are no weights by name, and thus stay behind.
        theirs = [name for name, t in state.items() if name.endswith(".weight") and t.dim() == n_dims]
        if len(ours) != len(theirs):
            raise WeightsError(f"{what} has {len(theirs)} {kind}; expected the {len(ours)} of NU-Net")
        for our_name, their_name in zip(ours, theirs, strict=True):
            for part in ("weight", "bias"):
                ending = their_name.removesuffix("weight") + part
                target = our_name.removesuffix("weight") + part
                if ending not in state:
                    raise WeightsError(f"{what} has no {ending!r}; expected weight and bias of every layer")
                tensor = state[ending].detach().float()
                if tensor.shape != wanted[target].shape:
                    raise WeightsError(
                        f"{ending!r} in {what} has the shape {tuple(tensor.shape)}; expected "
                        f"{tuple(wanted[target].shape)} as in NU-Net"
                    )
                mapped[target] = tensor.clone()
    return mapped


def _state_of(family: list[Checkpoint]) -> dict[str, Tensor]:
    states = [map_state(open_checkpoint(checkpoint), checkpoint.name) for checkpoint in family]
    if len(states) == 1:
        return states[0]
    return {f"networks.{i}.{name}": tensor for i, state in enumerate(states) for name, tensor in state.items()}


def _card(family: list[Checkpoint], model_id: str, source: Path, digest: str) -> dict[str, Any]:
    knots = [checkpoint.strength for checkpoint in family]
    blended = {"name": "nunet-blend", "knots": knots, "output": "clip"}
    told = ", ".join(f"{knot:g}" for knot in knots)
    return {
        "id": model_id,
        "title": "NU-Net (authors' weights)",
        "version": "1.0",
        "license": LICENSE,
        "citation": CITATION,
        "summary": f"The networks that the authors trained for the strengths {told}; in between their outputs are "
        "blended, below the first one the image fades in.",
        "recipe": "nunet",
        "architecture": blended if len(family) > 1 else {"name": "nunet", "output": "clip"},
        "normalization": {"name": "percentile", "parameters": {"lo": 0.1, "hi": 99.9}},
        "strength": {
            "default": min(max(_DEMONSTRATED, knots[0]), knots[-1]),
            "maximum": 10.0,
            "knots": knots,
            "identity_below": knots[0],
        },
        "object_diameter_px": (15.0, 40.0),
        "training": {
            "imported_from": source.name,
            "sha256_of_archive": digest,
            "checkpoints": {f"{checkpoint.strength:g}": checkpoint.name for checkpoint in family},
        },
    }


def _slug(folder: str) -> str:
    last = PurePosixPath(folder).name if folder != "." else "top"
    return re.sub(r"[^a-z0-9]+", "-", last.lower()).strip("-") or "models"
