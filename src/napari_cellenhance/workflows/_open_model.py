"""Models of one kind: which there are, the card of one, and its weights on a device."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_cellenhance.core.errors import ModelNotFoundError
from napari_cellenhance.zoo.cards import ModelCard
from napari_cellenhance.zoo.manifest import list_models, read_user_card

if TYPE_CHECKING:
    from napari_cellenhance.core.device import DeviceChoice

__all__ = ["Kind", "Loaded"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A card, its network, and the device it shall run on."""

    card: ModelCard
    module: Any
    choice: DeviceChoice


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """Models that do one thing.

    Parameters
    ----------
    recipes : collection of str
        Recipes of their cards.
    name : str
        What one of them is called in a sentence, such as "denoiser".
    advice : str
        What to do where there is none.
    """

    recipes: Collection[str]
    name: str
    advice: str = "train one"

    def all(self) -> tuple[ModelCard, ...]:
        """Models of this kind: those of the manifest, then the user's."""
        return tuple(card for card in list_models() if card.recipe in self.recipes)

    def card_of(self, model_id: str) -> ModelCard:
        """Card of an id, or of a file ending in ``.json``; loads no weights.

        Raises
        ------
        ModelNotFoundError
            No model of that id and this kind; the message lists those there are.
        ManifestError
            A file that is no card.
        """
        if model_id.endswith(".json"):
            card = read_user_card(model_id)
            if card.recipe not in self.recipes:
                raise ModelNotFoundError(
                    f"the card {model_id} is of the recipe {card.recipe!r}; expected that of a {self.name}"
                )
            return card
        cards = {card.id: card for card in self.all()}
        if model_id not in cards:
            known = ", ".join(cards) or f"none yet; {self.advice}"
            raise ModelNotFoundError(f"there is no {self.name} {model_id!r}; there is: {known}")
        return cards[model_id]

    def load(self, model_id: str, device: str, precision: str, cache_folder: str) -> Loaded:
        """Choose the device and load the weights.

        Parameters
        ----------
        model_id : str
            Id of a model, or the path of a card (``.json``) that a training left beside its weights.
        device : str
            These networks have no OpenVINO form; "openvino" is the CPU.

        Raises
        ------
        ModelNotFoundError, ManifestError
            As :meth:`card_of`.
        DownloadError, ChecksumError
            Its weights cannot be had.
        DeviceError, ParameterError
            Unknown device or precision.
        """
        from napari_cellenhance.core.memory import keep_memory
        from napari_cellenhance.workflows.device_check import choose_checked_device
        from napari_cellenhance.zoo.cache import cache_dir
        from napari_cellenhance.zoo.weights import load_card_file, load_model

        module: Any
        card = self.card_of(model_id)
        if model_id.endswith(".json"):
            card, module = load_card_file(model_id)
        else:
            module = load_model(card, cache=cache_dir(cache_folder or None))
        asked = "cpu" if device == "openvino" else device
        choice = choose_checked_device(asked, precision, cache_folder=cache_folder)
        keep_memory()
        return Loaded(card=card, module=module, choice=choice)
