"""NU-Net's training recipe: crops → network at random strengths → content, morphological and pixel losses.

Self-supervised, as published, or with a paired term on the crops whose objects are labelled ("guided").

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
from torch import Tensor, nn

from napari_cellenhance.core.augment import augment_contrast, degrade, dim
from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.losses.nunet import StyleBank, content_loss, morphological_loss
from napari_cellenhance.core.metrics import otsu_iou
from napari_cellenhance.core.models.nunet import NUNet
from napari_cellenhance.core.models.perception import Perception
from napari_cellenhance.core.sources import Crop, ImageSource, sample_crop, sample_labelled_crop, with_labels
from napari_cellenhance.core.targets import contact_line, from_image, from_labels

CONTACT_EMPHASIS = 4.0
"""Weight of the two-pixel lines between touching objects in the paired term; other pixels have 1."""

FLAT = 1e-3
"""Crops with a smaller range of grey values (of 0…1) are constant for all purposes."""

NORMALISED_BY = (0.1, 99.9)
"""Percentiles of the normaliser on the model cards."""

END_SHARE = 0.15
"""Strengths are drawn from a range this much wider, then clipped: end knots have one neighbour only."""

__all__ = ["NORMALISED_BY", "NUNetRecipe", "NUNetTraining", "as_filtered", "balance", "covered_fraction"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NUNetTraining:
    """Settings of the recipe; defaults train the shipped network.

    Parameters
    ----------
    crop_px, batch_size : int
        Side of a crop, in pixels (multiple of 16), and crops per update.
    strengths : (float, float)
        Range of ``w``. Per crop one strength is drawn from each half of it.
    loss_ratio : float
        Morphological over content loss per unit of ``w``: 1 is the published scale. Beyond a ratio of about 4
        blobs appear on empty ground.
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
        Weight of an explicit pixel L1 to ``core.targets.from_image`` at the smallest strength, falling to
        ``anchor_floor`` (a share of it) at ``anchor_until`` and above: small strengths stay faithful, large ones
        keep their objects, and bare ground stays bare.
    n_anchored : int
        First updates in which every strength is fully anchored; the same number again fades it out. Morphology then
        starts from a network that already shows the objects, rather than from edges that happen to match.
    paired : float
        Weight of the cross entropy to ``core.targets.from_labels`` on labelled crops; 0 trains without labels.
    paired_fraction : float
        Share of a batch that is drawn from labelled images when ``paired`` is positive.
    paired_keeps : float
        Share of the self-supervised loss that labelled crops keep.
    self_supervised : float
        Weight of the self-supervised loss; 0 needs neither perceptual network nor style bank.
    empty_fraction : float
        Share of crops that are nothing but noise, with a black target.
    dim_fraction : float
        Share of crops that are seen at a fraction of the full range, as weak objects beside strong ones are. A
        network of frozen norms has to learn it; instance norms take any gain out again.
    norms_freeze_at : int
        Update from which frozen norms use their gathered statistics in training too, as they do at inference.
    n_dry_run : int
        Updates of the dry run that balances the losses; λ = ⟨L_c⟩ / ⟨L_m⟩.
    """

    crop_px: int = 128
    batch_size: int = 4
    strengths: tuple[float, float] = (2.5, 10.0)
    loss_ratio: float = 0.4
    diameters_px: tuple[float, float] = (10.0, 44.0)
    content_taps: tuple[int, ...] = (0, 1)
    is_relative: bool = True
    degraded_fraction: float = 0.6
    anchor: float = 6.0
    anchor_until: float = 6.0
    anchor_floor: float = 0.25
    n_anchored: int = 300
    paired: float = 0.0
    paired_fraction: float = 0.75
    paired_keeps: float = 0.0
    self_supervised: float = 1.0
    empty_fraction: float = 0.04
    dim_fraction: float = 0.3
    norms_freeze_at: int = 2000
    n_dry_run: int = 20
    n_validation: int = 16

    def __post_init__(self) -> None:
        if self.crop_px % 16 or self.crop_px < 32:
            raise ParameterError(f"crop is {self.crop_px} px; expected a multiple of 16, at least 32")
        if self.batch_size < 1 or self.n_validation < 1:
            raise ParameterError(f"batch {self.batch_size}, validation {self.n_validation}; expected 1 or more each")
        if not 0 < self.strengths[0] <= self.strengths[1]:
            raise ParameterError(f"strengths are {self.strengths}; expected 0 < smallest ≤ largest")
        if self.paired < 0 or self.self_supervised < 0 or self.paired + self.self_supervised == 0:
            raise ParameterError(
                f"paired is {self.paired} and self_supervised {self.self_supervised}; expected weights of 0 or more, "
                "one of them positive"
            )
        if self.self_supervised == 0 and self.paired_fraction < 1:
            object.__setattr__(self, "paired_fraction", 1.0)  # nothing could be learned from the other crops


@dataclass(frozen=True)
class _Sample:
    """One crop as the network gets it, and what it is compared with; (Y, X), 0…1."""

    seen: NDArray[np.float32]
    reference: NDArray[np.float32]
    mildest: NDArray[np.float32]
    strongest: NDArray[np.float32]
    emphasis: NDArray[np.float32]
    """Weight of each pixel in the paired term."""
    is_paired: bool


@dataclass(frozen=True)
class _Batch:
    """Samples as tensors of shape (N, 1, H, W), grey values 0…255."""

    seen: Tensor
    reference: Tensor
    mildest: Tensor
    strongest: Tensor
    emphasis: Tensor
    is_paired: Tensor
    """(N,), bool."""
    groups: Tensor
    """(N,): group of the style bank, by the covered fraction of the reference."""

    def targets(self, share: Tensor) -> Tensor:
        """Blend of the two targets; ``share`` of shape (N·R,) in 0…1, the batch repeated R times."""
        repeat = share.shape[0] // self.seen.shape[0]
        t = share.view(-1, 1, 1, 1)
        return (1.0 - t) * self.mildest.repeat(repeat, 1, 1, 1) + t * self.strongest.repeat(repeat, 1, 1, 1)


class NUNetRecipe:
    """Binds data, network and losses behind ``core.training.TrainableRecipe``.

    Parameters
    ----------
    balance_factor : float
        λ of :func:`balance`, per unit of ``w``; L = mean[(L_c + w·λ·L_m) / (1 + r)] with the loss ratio
        r = ``loss_ratio``·w. The division keeps gradients of all strengths comparable ([1]_ trains one network per
        ``w`` and needs none).
    perception, bank : optional
        Not needed when ``settings.self_supervised`` is 0.
    use_bf16 : bool
        bf16 autocast; Gram matrices and losses stay in float32.
    device : str
        Torch device of the networks and batches; crops are cut and changed by the CPU.
    """

    def __init__(
        self,
        module: NUNet,
        perception: Perception | None,
        bank: StyleBank | None,
        sources: Sequence[ImageSource],
        validation: Sequence[ImageSource],
        settings: NUNetTraining,
        *,
        balance_factor: float = 1.0,
        seed: int = 0,
        use_bf16: bool = False,
        device: str = "cpu",
    ) -> None:
        if settings.self_supervised > 0 and (perception is None or bank is None):
            raise ParameterError(
                "self-supervised training compares features, so it needs a perceptual network and a style bank; give "
                "both, or set self_supervised to 0 and paired to 1 to learn from labels alone"
            )
        if perception is not None and bank is not None and bank.perception_id != perception.spec.id:
            raise ParameterError(
                f"the style bank was computed with {bank.perception_id!r} but the losses use {perception.spec.id!r}; "
                "build the bank again with this perceptual network"
            )
        if not sources:
            raise ImageError("no training images; give at least one source")
        self.device = torch.device(device)
        self.module = module.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.perception = perception and perception.to(  # type: ignore[call-overload]
            self.device, memory_format=torch.channels_last
        )
        self.bank = bank and bank.to(self.device)
        self.sources = sources
        self._labelled = with_labels(sources) if settings.paired > 0 else []
        if settings.paired > 0 and not self._labelled:
            raise ImageError(
                "the paired term needs labels, and no source has any; give label images, or set paired to 0"
            )
        self.settings = settings
        self.balance_factor = balance_factor
        self.use_bf16 = use_bf16
        self._validation, self._scored = self._fix_validation(validation or sources, seed)

    def loss(self, rng: np.random.Generator, step: int) -> dict[str, Tensor]:
        """One batch, two strengths per crop."""
        if step >= self.settings.norms_freeze_at:
            _freeze_norms(self.module)
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
        strengths = [torch.from_numpy(h.clip(low, high).astype(np.float32)).to(self.device) for h in halves]
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
                for key, value in self._losses(batch, [torch.full((n,), w, device=self.device)]).items():
                    sums[key] = sums.get(key, 0.0) + float(value)
        count = len(self._validation) * len({low, 0.5 * (low + high), high})
        scores = {key: value / count for key, value in sums.items()}
        if self._scored is not None:
            images, masks = self._scored
            for w in (0.5 * (low + high), high):
                out = self._forward(images, [torch.full((images.shape[0],), w, device=self.device)])[0]
                scores[f"otsu_iou_w{w:g}"] = _mean_otsu_iou(out.float().cpu().numpy()[:, 0], masks)
        return scores

    def _sample(self, rng: np.random.Generator) -> _Batch:
        s = self.settings
        n_paired = round(s.paired_fraction * s.batch_size) if self._labelled else 0
        samples = []
        for i in range(s.batch_size):
            is_paired = i < n_paired
            if rng.random() < s.empty_fraction:
                samples.append(self._empty(rng))
                continue
            sources, least = (self._labelled, 0.0) if is_paired else (self.sources, 0.1)
            crop = sample_crop(sources, s.crop_px, rng, diameters=s.diameters_px, min_range=least)
            if crop.image.max() - crop.image.min() < FLAT:
                samples.append(self._empty(rng))  # the norms turn a constant into infinite gradients
                continue
            image = _full_range(augment_contrast(crop.image, rng))
            seen = as_filtered(degrade(image, rng)) if rng.random() < s.degraded_fraction else image
            samples.append(_sample_of(Crop(image, crop.labels), self._dimmed(seen, rng), is_paired))
        return self._batch(samples)

    def _empty(self, rng: np.random.Generator) -> _Sample:
        s = self.settings
        side = s.crop_px
        black = np.zeros((side, side), np.float32)
        noise = degrade(black + np.float32(0.2), rng) + rng.normal(0.0, 0.02, black.shape)
        seen = self._dimmed(as_filtered(noise.astype(np.float32)), rng)
        return _Sample(seen, black, black, black, np.ones_like(black), True)

    def _dimmed(self, seen: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
        """Sometimes at a fraction of the range; instance norms would take that out again."""
        is_dim = self.module.norm == "frozen" and rng.random() < self.settings.dim_fraction
        return dim(seen, rng) if is_dim else seen

    def _batch(self, samples: Sequence[_Sample]) -> _Batch:
        groups = torch.zeros(len(samples), dtype=torch.long)
        if self.bank is not None:
            groups = self.bank.nearest_groups([covered_fraction(x.reference) for x in samples])
        return _Batch(
            seen=self._to_batch([x.seen for x in samples]),
            reference=self._to_batch([x.reference for x in samples]),
            mildest=self._to_batch([x.mildest for x in samples]),
            strongest=self._to_batch([x.strongest for x in samples]),
            emphasis=self._to_batch([x.emphasis for x in samples]) / 255.0,
            is_paired=torch.tensor([x.is_paired for x in samples], device=self.device),
            groups=groups.to(self.device),
        )

    def _to_batch(self, crops: Sequence[NDArray[np.float32]]) -> Tensor:
        return torch.from_numpy(np.stack(crops)[:, None].astype(np.float32) * 255.0).to(self.device)

    def _forward(self, seen: Tensor, strengths: list[Tensor]) -> list[Tensor]:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.use_bf16):
            if self.module.conditioning == "none":
                return [self.module(seen)] * len(strengths)
            # One call for all strengths: the statistics of frozen norms behind the features are those of all of them.
            features = self.module.features(seen).repeat(len(strengths), 1, 1, 1)
            return list(self.module.render(features, torch.cat(strengths)).split(seen.shape[0]))

    def _losses(self, batch: _Batch, strengths: list[Tensor], anchored: float = 0.0) -> dict[str, Tensor]:
        """Losses of all strengths; ``anchored`` is the least share of the pixel anchor at any of them."""
        s = self.settings
        repeat = len(strengths)
        w = torch.cat(strengths)
        outputs = torch.cat(self._forward(batch.seen, strengths)).float()
        low, high = s.strengths
        targets = batch.targets(((w - low) / (high - low)).clamp(0.0, 1.0) if high > low else torch.ones_like(w))
        is_paired = batch.is_paired.repeat(repeat)
        pixel = (outputs - targets).abs().mean(dim=(1, 2, 3)) / 255.0
        losses = {"pixel": pixel.mean()}
        total = torch.zeros_like(pixel)
        if bool(is_paired.any()):
            paired = _cross_entropy(outputs, targets, batch.emphasis.repeat(repeat, 1, 1, 1))
            total = total + is_paired * (s.paired or 1.0) * paired
            losses["paired"] = (paired * is_paired).sum() / is_paired.sum()
        if s.self_supervised > 0:
            weight = torch.where(is_paired, s.paired_keeps, 1.0) * s.self_supervised
            content, style = self._perceived(batch, outputs, w, weight > 0)
            fade = ((s.anchor_until - w) / max(s.anchor_until - low, 1e-6)).clamp(s.anchor_floor, 1.0)
            own = (content + w * self.balance_factor * style) / (1.0 + s.loss_ratio * w)
            total = total + weight * (own + s.anchor * fade.clamp_min(anchored) * pixel)
            n = (weight > 0).sum().clamp_min(1)
            losses |= {"content": content.sum() / n, "style": style.sum() / n}
        return {"total": total.mean(), **losses}

    def _perceived(self, batch: _Batch, outputs: Tensor, w: Tensor, used: Tensor) -> tuple[Tensor, Tensor]:
        """Content and morphological loss of each output, shape (N·R,); zero where not ``used``."""
        assert self.perception is not None and self.bank is not None
        s = self.settings
        content, style = torch.zeros_like(w), torch.zeros_like(w)
        if not bool(used.any()):
            return content, style
        n, repeat = batch.seen.shape[0], len(w) // batch.seen.shape[0]
        crops = used.view(repeat, n).any(dim=0)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.use_bf16):
            with torch.no_grad():
                reference = [f.repeat(repeat, 1, 1, 1) for f in self.perception(batch.reference[crops])]
            features = self.perception(outputs[used])
        content[used] = self._content(reference, features, w[used])
        style[used] = morphological_loss(
            features, self.bank, groups=batch.groups.repeat(repeat)[used], relative=s.is_relative
        )
        return content, style

    def _content(self, reference: list[Tensor], features: list[Tensor], w: Tensor) -> Tensor:
        """Mean over the content taps; those before the last one fade out towards the largest strength."""
        s = self.settings
        low, high = s.strengths
        fine = ((high - w) / (high - low)).clamp(0.0, 1.0) if high > low else torch.ones_like(w)
        total, weight = torch.zeros_like(w), torch.zeros_like(w)
        for tap in s.content_taps:
            share = torch.ones_like(w) if tap == s.content_taps[-1] else fine
            distance = content_loss(reference[tap], features[tap], relative=s.is_relative)
            total, weight = total + share * distance, weight + share
        return total / weight

    def _fix_validation(
        self, sources: Sequence[ImageSource], seed: int
    ) -> tuple[list[_Batch], tuple[Tensor, NDArray[np.bool_]] | None]:
        s = self.settings
        rng = np.random.default_rng([seed, 1])
        labelled = with_labels(sources) if s.paired > 0 else []
        n_paired = round(s.paired_fraction * s.n_validation) if labelled else 0
        samples = []
        for j in range(s.n_validation):
            is_paired = j < n_paired
            crop = sample_crop(labelled if is_paired else sources, s.crop_px, rng, diameters=s.diameters_px)
            samples.append(_sample_of(crop, as_filtered(degrade(crop.image, rng)) if j % 2 else crop.image, is_paired))
        batches = [self._batch(samples[i : i + s.batch_size]) for i in range(0, len(samples), s.batch_size)]
        images, masks = [], []
        for _ in range(s.n_validation):
            pair = sample_labelled_crop(sources, s.crop_px, rng, diameters=s.diameters_px)
            if pair is not None and pair.labels is not None and pair.labels.any():
                images.append(pair.image)
                masks.append(pair.labels > 0)
        return batches, ((self._to_batch(images), np.stack(masks)) if images else None)


def balance(recipe: NUNetRecipe, n_steps: int, seed: int) -> float:
    """Dry run on a copy of the network: λ = ⟨L_c⟩ / ⟨L_m⟩ over ``n_steps`` updates ([1]_ Sec. 2).

    Afterwards w is the ratio of the average losses, style to content. The recipe's own network is
    left as it was. The factor returned is per unit of ``w``: λ times ``settings.loss_ratio``.
    """
    if recipe.settings.self_supervised == 0:
        return 1.0
    trial = copy.copy(recipe)
    trial.balance_factor = recipe.settings.loss_ratio
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
    return recipe.settings.loss_ratio * content / style


def covered_fraction(image: NDArray[np.float32]) -> float:
    """Share of an unlabelled crop that is bright: Otsu's threshold after a Gaussian of 1.5 px. In 0…1."""
    from scipy.ndimage import gaussian_filter
    from skimage.filters import threshold_otsu

    smooth = gaussian_filter(image, 1.5)
    if smooth.max() <= smooth.min():
        return 0.0
    return float((smooth > threshold_otsu(smooth)).mean())  # type: ignore[no-untyped-call]


def _freeze_norms(module: NUNet) -> None:
    """Let frozen norms use the statistics they have gathered; their scale and shift go on learning."""
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eval()


def _sample_of(crop: Crop, seen: NDArray[np.float32], is_paired: bool) -> _Sample:
    emphasis = np.ones_like(crop.image)
    if is_paired and crop.labels is not None:
        mildest, strongest = from_labels(crop.image, crop.labels)
        emphasis += (CONTACT_EMPHASIS - 1.0) * contact_line(crop.labels)
    else:
        mildest, strongest = from_image(crop.image)
    return _Sample(seen, crop.image, mildest, strongest, emphasis, is_paired)


def as_filtered(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Percentiles 0.1…99.9 to 0…1, unclipped: how a poor image reaches the network when it is filtered."""
    low, high = np.percentile(image, NORMALISED_BY)
    out: NDArray[np.float32] = ((image - low) / (high - low)).astype(np.float32) if high > low else image
    return out


def _full_range(image: NDArray[np.float32]) -> NDArray[np.float32]:
    low, high = float(image.min()), float(image.max())
    out: NDArray[np.float32] = ((image - low) / (high - low)).astype(np.float32) if high > low else image
    return out


def _cross_entropy(outputs: Tensor, targets: Tensor, emphasis: Tensor) -> Tensor:
    """Pixel-wise binary cross entropy to soft targets, less its least value, per sample."""
    p = (outputs / 255.0).clamp(2e-3, 1.0 - 2e-3)
    t = (targets / 255.0).clamp(2e-3, 1.0 - 2e-3)
    divergence = t * (t / p).log() + (1.0 - t) * ((1.0 - t) / (1.0 - p)).log()
    return (divergence * emphasis).sum(dim=(1, 2, 3)) / emphasis.sum(dim=(1, 2, 3))


def _mean_otsu_iou(images: NDArray[np.float32], masks: NDArray[np.bool_]) -> float:
    pairs = [(i, m) for i, m in zip(images, masks, strict=True) if m.any() and i.max() > i.min()]
    return float(np.mean([otsu_iou(image, mask) for image, mask in pairs])) if pairs else 0.0
