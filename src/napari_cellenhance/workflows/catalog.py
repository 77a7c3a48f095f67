"""The filters on offer, learned and classical, and how to open one. Listing needs no torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from napari_cellenhance.core.errors import ModelNotFoundError
from napari_cellenhance.core.recipes.classical import CLASSICAL
from napari_cellenhance.core.recipes.protocol import Enhancer, FilterInfo, StrengthInfo
from napari_cellenhance.workflows._grey_filter import GreyEnhancer, GreyFilter, describe_grey, is_grey
from napari_cellenhance.workflows._segment_filter import SegmentFilter, describe_segmenting, is_segmenting
from napari_cellenhance.zoo.manifest import ModelCard, list_models

if TYPE_CHECKING:
    from napari_cellenhance.core.device import DeviceChoice

__all__ = [
    "FilterSpec",
    "OpenedFilter",
    "describe",
    "info_of",
    "is_filter",
    "list_filters",
    "open_enhancer",
    "spec_without_strength",
]

CLASSICAL_RANGE: Mapping[str, float | bool] = {"lo": 0.1, "hi": 99.9, "clip": True}
"""Percentiles that become 0 and 1 before a classical filter: those of the networks."""

_BYTES_PER_PX_CLASSICAL = 80
_GROUPS: Mapping[str, Literal["NU-Net", "AEP", "Denoising", "Restoration", "Keep only…", "BioImage.IO"]] = {
    "nunet": "NU-Net", "n2v": "Denoising", "care": "Restoration", "semantic": "Keep only…",
    "aep": "AEP", "bioimageio": "BioImage.IO",
}  # fmt: skip
"""Recipe of a card → heading in the lists of filters, in their order; a recipe that is not here makes no filters."""
_STRENGTH_HELP = "0 returns the input unchanged; larger values push objects to white and the ground to black."


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterSpec:
    """A filter as a workflow needs it: the card that the doors show, plus how to prepare the input.

    Parameters
    ----------
    info : FilterInfo
    normalizer : str
        Name for ``core.normalize.fit_normalizer``.
    normalizer_settings : mapping
        Its settings.
    identity_below : float
        Strengths below it fade to the unfiltered input.
    version, sha256 : str
        Of a model; the package's version and an empty string for a classical filter.
    card : ModelCard or None
        None for a classical filter.
    """

    info: FilterInfo
    normalizer: str = "percentile"
    normalizer_settings: Mapping[str, Any] = field(default_factory=lambda: dict(CLASSICAL_RANGE))
    identity_below: float = 0.0
    version: str = ""
    sha256: str = ""
    card: ModelCard | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedFilter:
    """A filter with its weights loaded on a device. Pass it to ``workflows.enhance.apply``.

    Parameters
    ----------
    spec : FilterSpec
    enhancer : Enhancer
    choice : DeviceChoice
    memory_limit_mb : int
        Working memory it keeps to, in MB.
    module : object
        The loaded network, shared by copies on other devices; None for a classical filter.
    """

    spec: FilterSpec
    enhancer: Enhancer
    choice: DeviceChoice
    memory_limit_mb: int
    module: Any = None

    @property
    def info(self) -> FilterInfo:
        """Card of the filter."""
        return self.spec.info

    @property
    def bytes_per_px(self) -> int:
        """Estimated working memory per pixel of a tile, in bytes."""
        return int(getattr(self.enhancer, "bytes_per_px", _BYTES_PER_PX_CLASSICAL))

    def with_memory(self, memory_limit_mb: int) -> OpenedFilter:
        """The same filter kept to another amount of working memory."""
        keep_to = getattr(self.enhancer, "with_memory", None)
        enhancer = self.enhancer if keep_to is None else keep_to(memory_limit_mb)
        return dataclasses.replace(self, enhancer=enhancer, memory_limit_mb=memory_limit_mb)

    def on_cpu(self, reason: str) -> OpenedFilter:
        """The same filter on the CPU, in float32."""
        choice = dataclasses.replace(
            self.choice, device="cpu", precision="float32", note=f"running on CPU ({reason})", is_fallback=True
        )
        return _assemble(self.spec, self.module, choice, self.memory_limit_mb)


def list_filters() -> tuple[FilterInfo, ...]:
    """All filters: models of the manifest and of the user's folder first, then the classical ones."""
    return (*(info_of(card) for card in _filter_cards()), *CLASSICAL)


def _filter_cards() -> tuple[ModelCard, ...]:
    """Models that enhance single planes, by method: a segmenting model without learned filters is none of them."""
    cards = [card for card in list_models() if is_filter(card)]
    return tuple(sorted(cards, key=lambda card: [*_GROUPS].index(card.recipe)))


def is_filter(card: ModelCard) -> bool:
    """Whether a model enhances single planes of one channel."""
    match card.recipe:
        case "aep":
            return _n_filters(card) > 0
        case "n2v":
            return card.axes == "YX" and card.architecture.get("n_channels", 1) == 1
        case "care":
            return card.axes == "YX"
        case "semantic":
            return card.architecture.get("n_in", 1) == 1
        case recipe:
            return recipe in _GROUPS


def _n_filters(card: ModelCard) -> int:
    n_per_class = card.architecture.get("filters_per_class", 1)
    is_aep = card.architecture.get("name") == "aep"
    return len(card.classes) * n_per_class if is_aep and isinstance(n_per_class, int) else 0


def describe(filter_id: str) -> FilterSpec:
    """Look up one filter.

    Raises
    ------
    ModelNotFoundError
        No filter of that id; the message lists those there are.
    """
    from napari_cellenhance import __version__

    if is_segmenting(filter_id):  # a filter of large images only, in no list
        return describe_segmenting(filter_id)
    if is_grey(filter_id):  # nor this one
        return describe_grey(filter_id)
    for card in _filter_cards():
        if card.id == filter_id:
            return _model_spec(card)
    for info in CLASSICAL:
        if info.id == filter_id:
            return FilterSpec(info=info, version=__version__)
    known = ", ".join(info.id for info in list_filters())
    raise ModelNotFoundError(f"there is no filter {filter_id!r}; expected one of: {known}")


def open_enhancer(
    filter_id: str,
    device: str = "auto",
    precision: str = "auto",
    *,
    memory_limit_mb: int = 2000,
    cache_folder: str = "",
) -> OpenedFilter:
    """Choose the device and load the weights (from the package, the cache or the net).

    Parameters
    ----------
    filter_id : str
    device, precision : str
        As in ``core.device.choose_device``; a classical filter always runs on the CPU.
    memory_limit_mb : int
        Working memory to keep to, in MB.
    cache_folder : str
        Preferred folder of downloaded models; see ``zoo.cache.cache_dir``.

    Raises
    ------
    ModelNotFoundError
        No such filter.
    DownloadError, ChecksumError
        Its weights cannot be had.
    DeviceError, ParameterError
        Unknown device or precision.
    """
    from napari_cellenhance.core.device import DeviceChoice
    from napari_cellenhance.workflows.device_check import choose_checked_device

    spec = describe(filter_id)
    if spec.card is None:
        choice = DeviceChoice(device="cpu", precision="float32", note="running on CPU (classical filter)")
        return _assemble(spec, None, choice, memory_limit_mb)
    if is_segmenting(filter_id):
        from napari_cellenhance.workflows.segment_model import load_segmenter

        loaded = load_segmenter(SegmentFilter.of(filter_id).model_id, device, precision, cache_folder=cache_folder)
        return _assemble(spec, loaded.module, loaded.choice, memory_limit_mb)
    if is_grey(filter_id):
        found = GreyFilter.of(filter_id).load(device, precision, cache_folder)
        return _assemble(spec, found.module, found.choice, memory_limit_mb)
    from napari_cellenhance.zoo.cache import cache_dir
    from napari_cellenhance.zoo.weights import load_model

    choice = choose_checked_device(_device_of(spec.card, device), precision, cache_folder=cache_folder)
    if spec.card.recipe == "bioimageio":
        from napari_cellenhance.zoo.bioimageio_import import load_imported

        return _assemble(spec, load_imported(spec.card), choice, memory_limit_mb)
    module = load_model(spec.card, cache=cache_dir(cache_folder or None))
    if choice.device == "openvino" and getattr(module, "norm", "instance") == "instance":
        choice = choose_checked_device(device, "float32")  # its bf16 rounds the norms of tiles and planes differently
    return _assemble(spec, module, choice, memory_limit_mb)


def _device_of(card: ModelCard, device: str) -> str:
    return "cpu" if card.recipe != "nunet" and device == "openvino" else device  # OpenVINO runs NU-Nets only


def _assemble(spec: FilterSpec, module: Any, choice: DeviceChoice, memory_limit_mb: int) -> OpenedFilter:
    enhancer: Enhancer
    if spec.card is None:
        from napari_cellenhance.core.recipes.classical import make_classical

        enhancer = make_classical(spec.info.id)
    elif is_segmenting(spec.info.id):
        from napari_cellenhance.workflows._segment_filter import ClassesEnhancer
        from napari_cellenhance.workflows._segmenters import segmenter_of

        enhancer = ClassesEnhancer(segmenter_of(spec.card, module, choice), spec.info)
    elif is_grey(spec.info.id):
        enhancer = GreyEnhancer(module, spec.card, spec.info, choice)
    elif spec.card.recipe == "aep":
        from napari_cellenhance.core.recipes.aep_enhancer import AEPEnhancer

        enhancer = AEPEnhancer(module, spec.info, choice, filter_index=_shown_filter(spec.card))
    elif spec.card.recipe == "n2v":
        from napari_cellenhance.core.recipes.denoiser import DenoiseEnhancer

        enhancer = DenoiseEnhancer(module, spec.info, choice)
    elif spec.card.recipe == "care":
        from napari_cellenhance.core.recipes.restorer import RestoreEnhancer

        enhancer = RestoreEnhancer(module, spec.info, choice)
    elif spec.card.recipe == "bioimageio":
        from napari_cellenhance.core.recipes import imported

        plan = imported.NetworkPlan.from_dict(spec.card.architecture)
        make = imported.ImportedBlocks if plan.takes_blocks else imported.ImportedEnhancer
        enhancer = make(imported.open_network(plan.kind, module, choice.torch_device), plan, spec.info, choice)
    elif spec.card.recipe == "semantic":
        from napari_cellenhance.core.recipes.separator import SeparateEnhancer

        enhancer = SeparateEnhancer(module, spec.info, choice)
    else:
        from napari_cellenhance.core.models.nunet_blend import BlendedNUNet
        from napari_cellenhance.core.recipes.nunet_open import open_nunet

        prepare = partial(open_nunet, info=spec.info, choice=choice, memory_limit_mb=memory_limit_mb)
        if isinstance(module, BlendedNUNet):
            from napari_cellenhance.core.recipes.nunet_blend import BlendedEnhancer

            enhancer = BlendedEnhancer(module, spec.info, prepare)
        else:
            enhancer = prepare(module)
    return OpenedFilter(spec=spec, enhancer=enhancer, choice=choice, memory_limit_mb=memory_limit_mb, module=module)


def _shown_filter(card: ModelCard) -> int:
    """The learned filter that shows the first class of objects best."""
    objects = [one for one in card.classes if one.value > 1]
    return next((one.filter for one in objects if one.filter is not None), 0)


def spec_without_strength(filter_id: str, card: ModelCard, group: Literal["AEP", "Denoising"]) -> FilterSpec:
    """Row of a model that is used as it is: there is no strength to choose."""
    info = FilterInfo(
        id=filter_id, title=card.title, group=group, summary=card.summary, reference=card.citation,
        strength=StrengthInfo(label="", help="", default=1.0, maximum=1.0),
    )  # fmt: skip
    return FilterSpec(
        info=info, normalizer=card.normalization.name, normalizer_settings=dict(card.normalization.parameters),
        version=card.version, sha256=card.file.sha256, card=card,
    )  # fmt: skip


def _model_spec(card: ModelCard) -> FilterSpec:
    return FilterSpec(
        info=info_of(card),
        normalizer=card.normalization.name,
        normalizer_settings=dict(card.normalization.parameters),
        identity_below=card.strength.identity_below,
        version=card.version,
        sha256=card.file.sha256,
        card=card,
    )


def info_of(card: ModelCard) -> FilterInfo:
    """Card of a model as the doors show it; also of a segmenting one that is no filter."""
    strength = card.strength
    return FilterInfo(
        id=card.id,
        title=card.title,
        group=_GROUPS.get(card.recipe, "NU-Net"),
        summary=card.summary,
        strength=StrengthInfo(
            label=strength.label,
            help=strength.help or _STRENGTH_HELP,
            default=strength.default,
            minimum=strength.minimum,
            maximum=strength.maximum,
            knots=tuple(strength.knots),
        ),
        reference=card.citation,
    )
