"""NU-Net's training recipe: crops → network at random strengths → content and morphological loss.

References
----------
.. [1] Lim et al., "NU-Net", 2023, Eq. 1–3 and Sec. 3.
.. [2] Babaeizadeh & Ghiasi, 2019: the loss weight is drawn at random and fed to the network.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_cellenhance.core.augment import augment_contrast, degrade
from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.losses.nunet import StyleBank, content_loss, morphological_loss
from napari_cellenhance.core.metrics import otsu_iou
from napari_cellenhance.core.models.nunet import NUNet
from napari_cellenhance.core.models.perception import Perception
from napari_cellenhance.core.sources import ImageSource, sample_crop, sample_labelled_crop

END_SHARE = 0.15
"""Strengths are drawn from a range this much wider, then clipped: end knots have one neighbour only."""

__all__ = ["NUNetRecipe", "NUNetTraining", "balance", "covered_fraction"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NUNetTraining:
    """Settings of the recipe; defaults train the shipped network.

    Parameters
    ----------
    crop_px, batch_size : int
        Side of a crop, in pixels (multiple of 16), and crops per update.
    strengths : (float, float)
        Range of ``w``. Per crop one strength is drawn from each half of it.
    diameters_px : (float, float)
        Object diameters after resizing: log-uniform.
    content_taps : tuple of int
        Taps of the content loss; the published one is (1,), relu3_4. Taps before the last one hold fine detail and
        grey levels; they fade out towards the largest strength.
    is_relative : bool
        Relative per-tap losses, see ``core.losses.nunet``. The published, absolute ones end in an
        adversarial optimum with a narrow perceptual network.
    degraded_fraction : float
        Share of crops that the network sees as a poor acquisition (``core.augment.degrade``) while the
        content is still compared with the crop itself.
    anchor : float
        Weight of an explicit pixel L1 to the crop at the smallest strength, falling to ``anchor_floor`` (a share
        of it) at ``anchor_until`` and above: small strengths stay faithful, large ones keep their objects.
    n_anchored : int
        First updates in which every strength is fully anchored; the same number again fades it out. Morphology then
        starts from a network that already shows the objects, rather than from edges that happen to match.
    n_dry_run : int
        Updates of the dry run that balances the losses; λ = ⟨L_c⟩ / ⟨L_m⟩.
    """

    crop_px: int = 128
    batch_size: int = 4
    strengths: tuple[float, float] = (1.0, 10.0)
    diameters_px: tuple[float, float] = (14.0, 44.0)
    content_taps: tuple[int, ...] = (0, 1)
    is_relative: bool = True
    degraded_fraction: float = 0.6
    anchor: float = 6.0
    anchor_until: float = 6.0
    anchor_floor: float = 0.03
    n_anchored: int = 300
    n_dry_run: int = 20
    n_validation: int = 16

    def __post_init__(self) -> None:
        if self.crop_px % 16 or self.crop_px < 32:
            raise ParameterError(f"crop is {self.crop_px} px; expected a multiple of 16, at least 32")
        if self.batch_size < 1 or self.n_validation < 1:
            raise ParameterError(f"batch {self.batch_size}, validation {self.n_validation}; expected 1 or more each")
        if not 0 < self.strengths[0] <= self.strengths[1]:
            raise ParameterError(f"strengths are {self.strengths}; expected 0 < smallest ≤ largest")


@dataclass(frozen=True)
class _Batch:
    seen: Tensor
    """(N, 1, H, W), 0…255: what the network gets."""
    reference: Tensor
    """(N, 1, H, W), 0…255: what the content is compared with."""
    groups: Tensor
    """(N,): group of the style bank, by the covered fraction of the reference."""


class NUNetRecipe:
    """Binds data, network and losses behind ``core.training.TrainableRecipe``.

    Parameters
    ----------
    balance_factor : float
        λ of :func:`balance`; L = mean[(L_c + w·λ·L_m) / (1 + w)]. The division keeps gradients of all strengths
        comparable ([1]_ trains one network per ``w`` and needs none).
    use_bf16 : bool
        bf16 autocast; Gram matrices and losses stay in float32.
    """

    def __init__(
        self,
        module: NUNet,
        perception: Perception,
        bank: StyleBank,
        sources: Sequence[ImageSource],
        validation: Sequence[ImageSource],
        settings: NUNetTraining,
        *,
        balance_factor: float = 1.0,
        seed: int = 0,
        use_bf16: bool = False,
    ) -> None:
        if bank.perception_id != perception.spec.id:
            raise ParameterError(
                f"the style bank was computed with {bank.perception_id!r} but the losses use {perception.spec.id!r}; "
                "build the bank again with this perceptual network"
            )
        if not sources:
            raise ImageError("no training images; give at least one source")
        self.module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.perception = perception.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.bank = bank
        self.sources = sources
        self.settings = settings
        self.balance_factor = balance_factor
        self.use_bf16 = use_bf16
        self._validation, self._scored = self._fix_validation(validation or sources, seed)

    def loss(self, rng: np.random.Generator, step: int) -> dict[str, Tensor]:
        """One batch, two strengths per crop."""
        batch = self._sample(rng)
        low, high = self.settings.strengths
        middle = 0.5 * (low + high)
        n = self.settings.batch_size
        beyond = END_SHARE * (high - low)
        halves = (
            [rng.uniform(low - beyond, middle, n), rng.uniform(middle, high + beyond, n)]
            if high > low
            else [np.full(n, low)]
        )
        strengths = [torch.from_numpy(h.clip(low, high).astype(np.float32)) for h in halves]
        start = self.settings.n_anchored
        everywhere = 1.0 if step < start else max(0.0, 2.0 - step / start) if start else 0.0
        return self._losses(batch, strengths, everywhere)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Losses on fixed crops, and Otsu IoU of fixed labelled crops at the middle and the largest strength."""
        low, high = self.settings.strengths
        sums: dict[str, float] = {}
        for batch in self._validation:
            n = batch.seen.shape[0]
            for w in {low, 0.5 * (low + high), high}:
                for key, value in self._losses(batch, [torch.full((n,), w)]).items():
                    sums[key] = sums.get(key, 0.0) + float(value)
        count = len(self._validation) * len({low, 0.5 * (low + high), high})
        scores = {key: value / count for key, value in sums.items()}
        if self._scored is not None:
            images, masks = self._scored
            for w in (0.5 * (low + high), high):
                out = self._forward(images, [torch.full((images.shape[0],), w)])[0]
                scores[f"otsu_iou_w{w:g}"] = _mean_otsu_iou(out.float().numpy()[:, 0], masks)
        return scores

    def _sample(self, rng: np.random.Generator) -> _Batch:
        s = self.settings
        seen, reference = [], []
        for _ in range(s.batch_size):
            crop = sample_crop(self.sources, s.crop_px, rng, diameters=s.diameters_px)
            crop = augment_contrast(crop, rng)
            span = crop.max() - crop.min()
            crop = (crop - crop.min()) / span if span > 0 else crop
            reference.append(crop)
            seen.append(degrade(crop, rng) if rng.random() < s.degraded_fraction else crop)
        return self._batch(seen, reference)

    def _batch(self, seen: Sequence[NDArray[np.float32]], reference: Sequence[NDArray[np.float32]]) -> _Batch:
        groups = self.bank.nearest_groups([covered_fraction(r) for r in reference])
        return _Batch(_to_batch(seen), _to_batch(reference), groups)

    def _forward(self, seen: Tensor, strengths: list[Tensor]) -> list[Tensor]:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.use_bf16):
            if self.module.conditioning == "none":
                return [self.module(seen)] * len(strengths)
            features = self.module.features(seen)
            return [self.module.render(features, w) for w in strengths]

    def _losses(self, batch: _Batch, strengths: list[Tensor], anchored: float = 0.0) -> dict[str, Tensor]:
        """Losses of all strengths; ``anchored`` is the least share of the pixel anchor at any of them."""
        s = self.settings
        with torch.autocast("cpu", torch.bfloat16, enabled=self.use_bf16), torch.no_grad():
            reference = self.perception(batch.reference)
        outputs = torch.cat(self._forward(batch.seen, strengths))
        with torch.autocast("cpu", torch.bfloat16, enabled=self.use_bf16):
            features = self.perception(outputs)
        w = torch.cat(strengths)
        repeat = len(strengths)
        content = self._content(reference, features, w, repeat)
        style = morphological_loss(features, self.bank, groups=batch.groups.repeat(repeat), relative=s.is_relative)
        pixel = (outputs.float() - batch.reference.repeat(repeat, 1, 1, 1)).abs().mean(dim=(1, 2, 3)) / 255.0
        fade = ((s.anchor_until - w) / max(s.anchor_until - s.strengths[0], 1e-6)).clamp(s.anchor_floor, 1.0)
        fade = fade.clamp_min(anchored)
        weighted = (content + w * self.balance_factor * style) / (1.0 + w)
        total = (weighted + s.anchor * fade * pixel).mean()
        return {"total": total, "content": content.mean(), "style": style.mean(), "pixel": pixel.mean()}

    def _content(self, reference: list[Tensor], features: list[Tensor], w: Tensor, repeat: int) -> Tensor:
        """Mean over the content taps; those before the last one fade out towards the largest strength."""
        s = self.settings
        low, high = s.strengths
        fine = ((high - w) / (high - low)).clamp(0.0, 1.0) if high > low else torch.ones_like(w)
        total, weight = torch.zeros_like(w), torch.zeros_like(w)
        for tap in s.content_taps:
            share = torch.ones_like(w) if tap == s.content_taps[-1] else fine
            distance = content_loss(reference[tap].repeat(repeat, 1, 1, 1), features[tap], relative=s.is_relative)
            total, weight = total + share * distance, weight + share
        return total / weight

    def _fix_validation(
        self, sources: Sequence[ImageSource], seed: int
    ) -> tuple[list[_Batch], tuple[Tensor, NDArray[np.bool_]] | None]:
        s = self.settings
        rng = np.random.default_rng([seed, 1])
        crops = [sample_crop(sources, s.crop_px, rng, diameters=s.diameters_px) for _ in range(s.n_validation)]
        batches = []
        for i in range(0, len(crops), s.batch_size):
            part = crops[i : i + s.batch_size]
            seen = [degrade(c, rng) if j % 2 else c for j, c in enumerate(part)]
            batches.append(self._batch(seen, part))
        pairs = [sample_labelled_crop(sources, s.crop_px, rng, diameters=s.diameters_px) for _ in range(s.n_validation)]
        labelled = [p for p in pairs if p is not None]
        if not labelled:
            return batches, None
        return batches, (_to_batch([p[0] for p in labelled]), np.stack([p[1] for p in labelled]))


def balance(recipe: NUNetRecipe, n_steps: int, seed: int) -> float:
    """Dry run on a copy of the network: λ = ⟨L_c⟩ / ⟨L_m⟩ over ``n_steps`` updates ([1]_ Sec. 2).

    Afterwards w is the ratio of the average losses, style to content. The recipe's own network is
    left as it was.
    """
    trial = copy.copy(recipe)
    trial.module = copy.deepcopy(recipe.module)
    optimizer = torch.optim.AdamW(trial.module.parameters(), lr=1e-3)
    content, style = 0.0, 0.0
    for i in range(max(1, n_steps)):
        losses = trial.loss(np.random.default_rng([seed, 2, i]), i)
        content += float(losses["content"].detach())
        style += float(losses["style"].detach())
        optimizer.zero_grad(set_to_none=True)
        losses["total"].backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    if style <= 0:
        raise ParameterError("the morphological loss is zero in the dry run; the style bank equals the images")
    return content / style


def covered_fraction(image: NDArray[np.float32]) -> float:
    """Share of an unlabelled crop that is bright: Otsu's threshold after a Gaussian of 1.5 px. In 0…1."""
    from scipy.ndimage import gaussian_filter
    from skimage.filters import threshold_otsu

    smooth = gaussian_filter(image, 1.5)
    if smooth.max() <= smooth.min():
        return 0.0
    return float((smooth > threshold_otsu(smooth)).mean())  # type: ignore[no-untyped-call]


def _to_batch(crops: Sequence[NDArray[np.float32]]) -> Tensor:
    return torch.from_numpy(np.stack(crops)[:, None].astype(np.float32) * 255.0)


def _mean_otsu_iou(images: NDArray[np.float32], masks: NDArray[np.bool_]) -> float:
    pairs = [(i, m) for i, m in zip(images, masks, strict=True) if m.any() and i.max() > i.min()]
    return float(np.mean([otsu_iou(image, mask) for image, mask in pairs])) if pairs else 0.0
