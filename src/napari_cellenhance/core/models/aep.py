"""AEP + AWEL: a network that learns image filters for its own segmentation, and a weighted vote over what it sees.

Network 1 segments the image; its last feature maps are the filters. Each filter turns the image into a translated
(enhanced) one, the shared Network 2 segments each of these, and AWEL weighs all segmentations. Trained jointly from
segmentation labels; the translation itself has no target.

References
----------
.. [1] Kato & Hotta, Sci. Rep., 2024 (AEP + AWEL): both networks, the translation and the ensemble. Where formulae and
   public code differ both are offered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.models.bit_dropout import BitDropout

__all__ = [
    "AEP", "AWEL", "GRID_PX", "LIGHT_RADIUS_PX", "AEPOutput", "Ensemble", "FilterSource", "LightNetwork", "Translation",
    "check_batch", "conv_block", "pad_to_grid", "translate", "warm_start",
]  # fmt: skip

GRID_PX = 8
"""The networks halve the image three times."""

LIGHT_RADIUS_PX = 43
"""How far a pixel of :class:`LightNetwork` sees."""

SECOND_MAPS = 16
MAX_FILTERS_PER_CLASS = 5

FilterSource = Literal["penultimate", "logits", "softmax", "argmax"]
Translation = Literal["code", "paper"]
Ensemble = Literal["none", "fixed", "auto"]


@dataclass(frozen=True, slots=True)
class AEPOutput:
    """Everything the networks compute for a batch.

    Parameters
    ----------
    filters : Tensor of shape (N, F, Y, X)
        Translation filters, 0 or more.
    translated : Tensor of shape (N, F, Y, X)
        Translated images, below 1 ("code") or below 2 ("paper") for images in [0, 1].
    branches : Tensor of shape (N, F + 1, C, Y, X), float32
        Logits of Network 1 on the image, then of Network 2 on each translated image.
    logits : Tensor of shape (N, C, Y, X), float32
        Of the ensemble.
    """

    filters: Tensor
    translated: Tensor
    branches: Tensor
    logits: Tensor

    @property
    def probabilities(self) -> Tensor:
        """Softmax of ``logits``, shape (N, C, Y, X)."""
        return self.logits.softmax(dim=1)

    def window(self, rows: slice, columns: slice) -> AEPOutput:
        """Cut the same window out of every map."""
        return AEPOutput(
            self.filters[..., rows, columns],
            self.translated[..., rows, columns],
            self.branches[..., rows, columns],
            self.logits[..., rows, columns],
        )


def conv_block(n_in: int, n_out: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution of padding 1, batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(n_in, n_out, kernel, stride, padding=1), nn.BatchNorm2d(n_out), nn.ReLU(inplace=True)
    )


def _up_block(n_in: int, n_out: int) -> nn.Sequential:
    """Transposed convolution to twice the size, batch norm, ReLU."""
    return nn.Sequential(nn.ConvTranspose2d(n_in, n_out, 4, 2, 1), nn.BatchNorm2d(n_out), nn.ReLU(inplace=True))


class LightNetwork(nn.Module):
    """The light encoder-decoder that is both Network 1 and Network 2 of [1]_.

    Strided convolutions instead of pooling, three skips, none at full resolution; dropout after every block but the
    last, the skips leaving before it.

    Parameters
    ----------
    n_classes : int
        Channels of the logits.
    n_maps : int
        Penultimate maps.
    dropout : float
        Probability; active in training only.
    """

    def __init__(self, n_classes: int, n_maps: int = SECOND_MAPS, dropout: float = 0.5) -> None:
        super().__init__()
        self.c1 = conv_block(1, 32)
        self.c2 = conv_block(32, 64, 4, 2)
        self.c3 = conv_block(64, 64)
        self.c4 = conv_block(64, 64, 4, 2)
        self.c5 = conv_block(64, 64)
        self.c6 = conv_block(64, 128, 4, 2)
        self.c7 = conv_block(128, 128)
        self.d1 = _up_block(256, 64)
        self.c8 = conv_block(64, 64)
        self.d2 = _up_block(128, 32)
        self.c9 = conv_block(32, 32)
        self.d3 = _up_block(96, 16)
        self.c10 = conv_block(16, n_maps)
        self.out = nn.Conv2d(n_maps, n_classes, 1)
        self.drops = nn.ModuleList(BitDropout(dropout) for _ in range(12))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, C, Y, X) and penultimate maps (N, n_maps, Y, X) of a batch (N, 1, Y, X); Y, X multiples of 8."""
        d = self.drops
        a = self.c2(d[0](self.c1(x)))
        b = self.c4(d[2](self.c3(d[1](a))))
        c = self.c6(d[4](self.c5(d[3](b))))
        x = d[6](self.c7(d[5](c)))
        x = d[8](self.c8(d[7](self.d1(torch.cat([x, c], dim=1)))))
        x = d[10](self.c9(d[9](self.d2(torch.cat([x, b], dim=1)))))
        maps: Tensor = self.c10(d[11](self.d3(torch.cat([x, a], dim=1))))
        return self.out(maps), maps


class AWEL(nn.Module):
    """Weighted sum of the branches' logits, as a 1×1×1 convolution over them: one weight each and a common bias.

    Notes
    -----
    The weights are free, so they may become negative. They start at 1 / S, the mean; the public code starts at
    random. The bias cancels in the softmax.
    """

    def __init__(self, n_branches: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(n_branches, 1, 1)
        nn.init.constant_(self.conv.weight, 1.0 / n_branches)
        nn.init.zeros_(self.conv.get_parameter("bias"))

    def forward(self, branches: Tensor) -> Tensor:
        """Weigh branches of shape (N, S, C, Y, X) into logits of shape (N, C, Y, X)."""
        weighed: Tensor = self.conv(branches)
        return weighed.squeeze(1)


class AEP(nn.Module):
    """Network 1, translation, shared Network 2 and ensemble.

    Parameters
    ----------
    n_classes : int
        2 or more.
    filters_per_class : int
        Filters are this many times the classes: 1 as published, up to 5; 0 leaves Network 1 alone with its ensemble.
    n_maps : int or None
        Penultimate maps of Network 1, of which the first ones are the filters. None: as many as filters, the paper's
        definition; 16 is the public code's.
    source : "penultimate", "logits", "softmax" or "argmax"
        What is a filter. The last three have one per class; the one-hot maps of "argmax" carry no gradient.
    translation : "code" or "paper"
        σ(x + ReLU f) or x + σ(ReLU f).
    ensemble : "none", "fixed" or "auto"
        The last branch; the sum of the branches; AWEL.
    dropout : float
        In training only.

    Raises
    ------
    ParameterError
        A setting outside its range, or two that exclude each other.
    """

    def __init__(
        self,
        n_classes: int = 3,
        *,
        filters_per_class: int = 1,
        n_maps: int | None = None,
        source: FilterSource = "penultimate",
        translation: Translation = "code",
        ensemble: Ensemble = "auto",
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        _check_settings(n_classes, filters_per_class, source, translation, ensemble)
        self.n_classes = n_classes
        self.filters_per_class = filters_per_class
        self.n_filters = filters_per_class * n_classes
        self.source: FilterSource = source
        self.translation: Translation = translation
        self.ensemble: Ensemble = ensemble
        self.dropout = dropout
        own = self.n_filters if source == "penultimate" and self.n_filters else SECOND_MAPS
        self.n_maps = own if n_maps is None else n_maps
        if source == "penultimate" and self.n_maps < max(1, self.n_filters):
            raise ParameterError(
                f"{self.n_filters} filters cannot come from {self.n_maps} maps; expected as many or more"
            )
        self.first = LightNetwork(n_classes, self.n_maps, dropout)
        self.second = LightNetwork(n_classes, SECOND_MAPS, dropout) if self.n_filters else None
        self.awel = AWEL(self.n_filters + 1) if ensemble == "auto" else None

    @property
    def architecture(self) -> dict[str, Any]:
        """Description for a model card; ``AEP(**description without "name")`` is this network."""
        return {
            "name": "aep",
            "n_classes": self.n_classes,
            "filters_per_class": self.filters_per_class,
            "n_maps": self.n_maps,
            "source": self.source,
            "translation": self.translation,
            "ensemble": self.ensemble,
            "dropout": self.dropout,
        }

    @property
    def radius_px(self) -> int:
        """How far a pixel of the result sees: through both networks, one after the other."""
        return LIGHT_RADIUS_PX * (2 if self.n_filters else 1)

    @property
    def filters_radius_px(self) -> int:
        """How far a pixel of a filter sees: through Network 1."""
        return LIGHT_RADIUS_PX

    def filters_of(self, x: Tensor) -> Tensor:
        """Run Network 1 alone: filters (N, F, Y, X) of images (N, 1, Y, X); Y and X multiples of 8."""
        return self._filters(*self.first(x))

    @property
    def branch_names(self) -> tuple[str, ...]:
        """What each branch segments."""
        return ("image", *(f"filter {i + 1}" for i in range(self.n_filters)))

    def branch_weights(self) -> Tensor:
        """Weight of each branch in the ensemble, shape (F + 1,)."""
        if self.awel is not None:
            return self.awel.conv.weight.detach().reshape(-1)
        weights = torch.ones(self.n_filters + 1)
        if self.ensemble == "none":
            weights[:-1] = 0.0
        return weights

    def to_channels_last(self) -> AEP:
        """Lay the convolutions out for speed (in place); the 5-D weights of AWEL have no such layout."""
        for network in (self.first, self.second):
            if network is not None:
                network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return self

    def forward(self, x: Tensor) -> AEPOutput:
        """Segment images of shape (N, 1, Y, X) in [0, 1].

        Sides that are no multiples of 8 are padded by reflection and the result is cropped back.
        """
        check_batch(x)
        size = x.shape[-2:]
        x, (top, left) = pad_to_grid(x)
        logits, maps = self.first(x)
        filters = self._filters(logits, maps)
        translated = translate(x, filters, self.translation)
        seen = [logits]
        if self.second is not None:
            seen += [self.second(translated[:, i : i + 1])[0] for i in range(self.n_filters)]  # one by one: batch norm
        branches = torch.stack(seen, dim=1).float()
        result = AEPOutput(filters, translated, branches, self._weighed(branches))
        return result.window(slice(top, top + size[0]), slice(left, left + size[1]))

    def _filters(self, logits: Tensor, maps: Tensor) -> Tensor:
        n, wide = self.n_filters, logits.float()
        if n == 0 or self.source == "penultimate":
            return maps[:, :n].float()
        if self.source == "logits":
            return F.relu(wide)
        if self.source == "softmax":
            return wide.softmax(dim=1)
        chosen = wide.argmax(dim=1)
        return F.one_hot(chosen, self.n_classes).movedim(-1, 1).to(wide.dtype)

    def _weighed(self, branches: Tensor) -> Tensor:
        if self.awel is not None:
            with torch.autocast(branches.device.type, enabled=False):
                weighed: Tensor = self.awel(branches)
            return weighed
        return branches.sum(dim=1) if self.ensemble == "fixed" else branches[:, -1]


def translate(x: Tensor, filters: Tensor, how: Translation) -> Tensor:
    """Translated images, one per filter.

    Parameters
    ----------
    x : Tensor of shape (N, 1, Y, X)
        In [0, 1].
    filters : Tensor of shape (N, F, Y, X)
        Any sign; what is negative counts as 0.
    how : "code" or "paper"
        σ(x + ReLU f), in [0.5, 1) — text and code of [1]_; or x + σ(ReLU f), in [0.5, 2) — its formula.

    Returns
    -------
    Tensor of shape (N, F, Y, X)
    """
    positive = F.relu(filters)
    return torch.sigmoid(x + positive) if how == "code" else x + torch.sigmoid(positive)


def pad_to_grid(x: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """Pad (N, 1, Y, X) by reflection to multiples of 8; also return how much came on top and on the left.

    Split evenly, the extra pixel at the end; a side that is too short to be reflected repeats its edge.
    """
    before = [(-size % GRID_PX) // 2 for size in x.shape[-2:]]
    for axis, (size, first) in enumerate(zip(x.shape[-2:], before, strict=True)):
        last = -size % GRID_PX - first
        if last:
            widths = (0, 0, first, last) if axis == 0 else (first, last, 0, 0)
            x = F.pad(x, widths, mode="reflect" if size > last else "replicate")
    return x, (before[0], before[1])


def warm_start(module: nn.Module, state: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Take over the weights of another network of the same method, perhaps with other classes.

    Where a layer's size follows the number of classes, the part that both have is taken over: the first classes,
    filters and branches. Classes are numbered alike everywhere, background first, so they mean about the same.

    Parameters
    ----------
    module : nn.Module
        Changed in place.
    state : mapping of str to Tensor
        State dict.

    Returns
    -------
    tuple of str
        Names of the tensors that stayed as they were, in part or as a whole.

    Raises
    ------
    ParameterError
        Nothing fits: the weights are of another kind of network.
    """
    own = module.state_dict()
    fitting = {name for name, tensor in state.items() if name in own and own[name].shape == tensor.shape}
    if not any(own[name].ndim > 1 for name in fitting):
        raise ParameterError("the weights to start from fit none of the layers; choose a model of the same method")
    with torch.no_grad():
        for name, tensor in state.items():
            if name in own and own[name].ndim == tensor.ndim:
                both = tuple(slice(min(sizes)) for sizes in zip(own[name].shape, tensor.shape, strict=True))
                own[name][both] = tensor[both].to(own[name].dtype)
    return tuple(name for name in own if name not in fitting)


def check_batch(x: Tensor) -> None:
    """Refuse what is no batch of grey planes with ``ImageError``."""
    if x.ndim != 4 or x.shape[1] != 1 or 0 in x.shape:
        raise ImageError(
            f"a batch of shape {tuple(x.shape)} cannot be segmented; expected (N, 1, Y, X): grey planes, one channel"
        )


def _check_settings(n_classes: int, filters_per_class: int, source: str, translation: str, ensemble: str) -> None:
    if n_classes < 2:
        raise ParameterError(f"{n_classes} classes; a segmentation needs 2 or more, background included")
    if not 0 <= filters_per_class <= MAX_FILTERS_PER_CLASS:
        raise ParameterError(f"{filters_per_class} filters per class; expected 0 to {MAX_FILTERS_PER_CLASS}, best is 1")
    for name, value, kind in (
        ("source", source, FilterSource),
        ("translation", translation, Translation),
        ("ensemble", ensemble, Ensemble),
    ):
        if value not in get_args(kind):
            raise ParameterError(f"{name} is {value!r}; expected one of {get_args(kind)}")
    if source != "penultimate" and filters_per_class > 1:
        raise ParameterError(
            f"filters from the {source} are one per class, not {filters_per_class}; choose 'penultimate' for more"
        )
