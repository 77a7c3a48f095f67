"""A denoiser of the zoo as a part of another model: opened, checked, hashed; it is never changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_cellenhance.core.errors import ParameterError

if TYPE_CHECKING:
    from napari_cellenhance.core.models.denoiser import DenoisingNetwork

__all__ = ["FrozenDenoiser", "open_denoiser"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenDenoiser:
    """A denoiser and what a card keeps of it.

    Parameters
    ----------
    id, title, citation : str
    sha256 : str
        Of its weights file.
    tensors_sha256 : str
        Of its tensors, see ``core.models.voidseg.state_hash``.
    normalization : dict
        ``name`` and ``parameters`` of its normaliser.
    """

    id: str
    title: str
    citation: str
    sha256: str
    tensors_sha256: str
    normalization: dict[str, Any]
    module: DenoisingNetwork

    def record(self) -> dict[str, Any]:
        """JSON-ready."""
        names = ("id", "title", "citation", "sha256", "tensors_sha256")
        return {name: getattr(self, name) for name in names}


def open_denoiser(model_id: str) -> FrozenDenoiser:
    """Load a denoiser of single planes and one channel.

    Raises
    ------
    ModelNotFoundError
        No model of that id.
    ParameterError
        A model that is no denoiser, or one of volumes or of several channels.
    """
    from napari_cellenhance.core.models.denoiser import DenoisingNetwork
    from napari_cellenhance.core.models.voidseg import checked_denoiser, state_hash
    from napari_cellenhance.zoo.manifest import find_model
    from napari_cellenhance.zoo.weights import load_model

    card = find_model(model_id)
    if card.recipe != "n2v":
        raise ParameterError(f"the model {card.id!r} is no denoiser; train one with “cellenhance train n2v”")
    module = load_model(card)
    if not isinstance(module, DenoisingNetwork):
        raise ParameterError(f"the model {card.id!r} has no network that denoises; choose another one")
    return FrozenDenoiser(
        id=card.id, title=card.title, citation=card.citation, sha256=card.file.sha256,
        tensors_sha256=state_hash(checked_denoiser(module)), normalization=card.normalization.model_dump(),
        module=module,
    )  # fmt: skip
