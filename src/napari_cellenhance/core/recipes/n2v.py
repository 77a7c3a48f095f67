"""Noise2Void's training recipe: noisy patches → blind spots → squared error there; no clean image is needed.

References
----------
.. [1] Krull et al., CVPR 2019 (Noise2Void): L = Σ m·(f(x̃) − x)² / Σ m, batch 128 of 64², Adam 4e-4.
.. [2] Höck et al., ECCV workshops 2022 (N2V2); [3] Broaddus et al., ISBI 2020 (structN2V): see ``core.blind_spots``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_cellenhance.core.augment import Scalar, dihedral
from napari_cellenhance.core.blind_spots import BlindSpots, blind, draw_spots
from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.models.denoiser import DenoisingNetwork
from napari_cellenhance.core.noise import NO_NOISE, NoiseRange

__all__ = ["N2VRecipe", "N2VTraining", "NoisyImage"]

_KEPT_WHEN_TURNED = {"none": range(8), "cross": range(8), "square": range(8)}
_FLIPS = (0, 2, 4, 6)
"""Symmetries that keep rows rows: of ``core.augment.dihedral``."""
_SALT = 0x5EED


@dataclass(frozen=True, slots=True, kw_only=True)
class N2VTraining:
    """Settings of the recipe; those of the loop are ``core.training.FitSettings``.

    The paper's are ``N2VTraining(batch_size=128, spots=BlindSpots(percent=0.198, radius_px=2, replace_by="uniform"))``
    with ``FitSettings(learning_rate=4e-4, schedule="plateau")``.

    Parameters
    ----------
    patch_px : int
        Side of a patch; as much of it as the image has, down to a multiple of the network's grid.
    patch_depth : int
        Planes of a patch of a volume.
    batch_size : int
        Patches per update.
    spots : BlindSpots
    has_symmetries : bool
        Turn and flip patches, eight ways; where a line structure is hidden only those four that keep it.
    holdout_fraction : float
        Share of the area whose pixels are never a target of the training and only these of the validation. They are
        context in both, as blind spots leave all pixels around visible.
    n_validation : int
        Patches of the validation.
    validation_percent : float
        Share of blind spots in them, in percent. The noise of their targets does not go away, so there have to be
        many for two networks to be told apart.
    noise : NoiseRange or None
        Noise that is added to a patch before its blind spots are drawn, so that a network that is to know many kinds
        of noise learns from good images too.
    """

    patch_px: int = 64
    patch_depth: int = 16
    batch_size: int = 16
    spots: BlindSpots = field(default_factory=BlindSpots)
    has_symmetries: bool = True
    holdout_fraction: float = 0.1
    n_validation: int = 192
    validation_percent: float = 2.0
    noise: NoiseRange | None = None

    def __post_init__(self) -> None:
        if min(self.patch_px, self.patch_depth, self.batch_size, self.n_validation) < 1:
            raise ParameterError(
                f"patches of {self.patch_px} px and {self.patch_depth} planes, batch {self.batch_size}, "
                f"{self.n_validation} for validation; expected 1 or more each"
            )
        if not 0 <= self.holdout_fraction <= 0.5:
            raise ParameterError(f"holdout_fraction is {self.holdout_fraction}; expected 0 to 0.5")


@dataclass(frozen=True, slots=True, eq=False)
class NoisyImage:
    """An image to learn from.

    Parameters
    ----------
    pixels : ndarray of shape (C, [Z,] Y, X), float32
        Finite; about [0, 1].
    name : str
    weight : float
        How often it is drawn, in relation to its size.
    """

    pixels: NDArray[np.float32]
    name: str = "image"
    weight: float = 1.0


class N2VRecipe:
    """Binds noisy images and network behind ``core.training.TrainableRecipe``.

    Parameters
    ----------
    module : DenoisingNetwork
        Trained in place, on the device where it is. With stored statistics, its mean and std are set to those of the
        images.
    images : sequence of NoisyImage
        All of the module's channels and dimensions.
    settings : N2VTraining
    seed : int
        Of what is kept aside, and of the blind spots of the validation.
    use_bf16 : bool
        bf16 autocast; the loss stays in float32.
    keeps_statistics : bool
        Leave mean and std as the module has them, where it goes on learning.

    Raises
    ------
    ImageError
        No image, an image that is too small or of one single grey value, other channels or dimensions.
    """

    def __init__(
        self,
        module: DenoisingNetwork,
        images: Sequence[NoisyImage],
        settings: N2VTraining,
        *,
        seed: int = 0,
        use_bf16: bool = False,
        keeps_statistics: bool = False,
    ) -> None:
        if not images:
            raise ImageError("no image was given to learn from; choose at least one")
        self.network = module.to_channels_last()
        self.module: nn.Module = self.network
        self.settings, self.use_bf16 = settings, use_bf16
        self._images = [_checked(image, module) for image in images]
        if module.statistics == "stored" and not keeps_statistics:
            self._store_statistics()
        self._moments = [self._moments_of(image) for image in self._images]
        self._blocks = [_blocks(image.pixels.shape[1:], settings, seed, i) for i, image in enumerate(self._images)]
        self._held_out = [_mask(image, blocks) for image, blocks in zip(self._images, self._blocks, strict=True)]
        areas = np.array([image.weight * float(np.prod(image.pixels.shape[1:])) for image in self._images])
        self._chances = areas / areas.sum()
        kept = settings.spots.structure in _KEPT_WHEN_TURNED
        self._symmetries = (tuple(range(8)) if kept else _FLIPS) if settings.has_symmetries else (0,)
        self._validation = self._make_validation(seed)

    def loss(self, rng: np.random.Generator, step: int) -> dict[str, Tensor]:
        """One batch; ``rng`` draws patches, noise and blind spots, so the same one gives the same loss."""
        drawn = [self._draw(rng) for _ in range(self.settings.batch_size)]
        return {"total": self._loss_of(_stacked(drawn))}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Squared error at the blind spots that were kept aside, in units of the variance of the images.

        Returns
        -------
        dict of str to float
            ``total`` and, where there are several channels, ``channel_C`` for each.
        """
        was_training = self.module.training
        self.module.eval()
        errors = [self._errors(batch) for batch in self._validation]
        self.module.train(was_training)
        n_channels = self.network.n_channels
        squares = torch.cat([e for e, _ in errors]).double().cpu().numpy()
        channels = torch.cat([c for _, c in errors]).cpu().numpy()
        scores = {"total": float(squares.mean())}
        if n_channels > 1:
            scores |= {f"channel_{c}": float(squares[channels == c].mean()) for c in range(n_channels)}
        return scores

    @property
    def _device(self) -> torch.device:
        return next(self.module.parameters()).device

    def _store_statistics(self) -> None:
        for c in range(self.network.n_channels):
            mean, std = _pooled([image.pixels[c] for image in self._images])
            if std <= 0:
                raise ImageError(f"channel {c} of the images has one single grey value; there is nothing to learn")
            self.network.mean[c], self.network.std[c] = mean, std

    def _moments_of(self, image: NoisyImage) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Mean and standard deviation per channel, each of shape (C, 1, …)."""
        shape = (-1, *[1] * (image.pixels.ndim - 1))
        if self.network.statistics == "stored":
            mean, std = self.network.mean.cpu().numpy(), self.network.std.cpu().numpy()
        else:
            pairs = [_pooled([channel]) for channel in image.pixels]
            if min(std for _, std in pairs) <= 0:
                raise ImageError(f"“{image.name}” has one single grey value; leave it out")
            mean, std = np.array(pairs, np.float32).T
        return mean.astype(np.float32).reshape(shape), std.astype(np.float32).reshape(shape)

    def _draw(self, rng: np.random.Generator) -> _Patch:
        while True:
            index = int(rng.choice(len(self._images), p=self._chances))
            pixels, held_out = self._images[index].pixels, self._held_out[index]
            window = _window(pixels.shape[1:], self._patch_shape(pixels.shape[1:]), rng)
            patch, is_target = pixels[(slice(None), *window)], ~held_out[window]
            symmetry = int(rng.choice(self._symmetries))
            patch = np.stack([_turned(channel, symmetry) for channel in patch])
            is_target = _turned(is_target, symmetry)
            found = self._hide(patch, is_target, index, rng, self.settings.spots.percent)
            if found is not None:
                return found

    def _hide(
        self,
        patch: NDArray[np.float32],
        is_target: NDArray[np.bool_],
        index: int,
        rng: np.random.Generator,
        percent: float,
    ) -> _Patch | None:
        """Standardise a patch, hide pixels of each channel; None where no target is among them."""
        mean, std = self._moments[index]
        noise = NO_NOISE if self.settings.noise is None else self.settings.noise.draw(rng)
        if self.network.statistics == "image":
            std = noise.std_with(mean, std)
        patch = (noise.add(patch, rng) - mean) / std
        blinded, places = [], []
        for c, channel in enumerate(patch):
            spots = draw_spots(channel.shape, percent, rng)
            spots = spots[is_target[tuple(spots.T)]]
            hidden, spots = blind(channel, self.settings.spots, rng, at=spots) if len(spots) else (channel, spots)
            blinded.append(hidden)
            places.append(np.concatenate([np.full((len(spots), 1), c, np.intp), spots], axis=1))
        at = np.concatenate(places)
        if not len(at):
            return None
        return _Patch(np.stack(blinded), np.ascontiguousarray(at), patch[tuple(at.T)])

    def _make_validation(self, seed: int) -> list[_Batch]:
        """Patches around what is kept aside, with blind spots that never change."""
        s, rng = self.settings, np.random.default_rng([_SALT, seed])
        found: list[_Patch] = []
        while len(found) < s.n_validation:
            index = int(rng.choice(len(self._images), p=self._chances))
            pixels, held_out = self._images[index].pixels, self._held_out[index]
            shape = self._patch_shape(pixels.shape[1:])
            window = _window(pixels.shape[1:], shape, rng)
            if self._blocks[index]:
                block = self._blocks[index][int(rng.integers(len(self._blocks[index])))]
                window = (*window[:-2], *_around(block, shape[-2:], pixels.shape[-2:]))
            is_target = held_out[window] if held_out.any() else np.ones_like(held_out[window])
            patch = self._hide(pixels[(slice(None), *window)], is_target, index, rng, s.validation_percent)
            if patch is not None:
                found.append(patch)
        by_shape: dict[tuple[int, ...], list[_Patch]] = {}
        for patch in found:
            by_shape.setdefault(patch.blinded.shape, []).append(patch)
        n = s.batch_size
        return [_stacked(same[i : i + n]) for same in by_shape.values() for i in range(0, len(same), n)]

    def _patch_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        return _patch_shape(shape, self.settings, self.network.grid_px)

    def _errors(self, batch: _Batch) -> tuple[Tensor, Tensor]:
        """Squared errors at the blind spots, and the channel of each."""
        device = self._device
        with torch.autocast(device.type, torch.bfloat16, enabled=self.use_bf16):
            restored = self.module(batch.blinded.to(device)).float()
        at = batch.at.to(device)
        return (restored[tuple(at)] - batch.wanted.to(device)) ** 2, at[1]

    def _loss_of(self, batch: _Batch) -> Tensor:
        return self._errors(batch)[0].mean()


@dataclass(frozen=True, slots=True)
class _Patch:
    """A patch (C, …) with its blind spots (n, 1 + dimensions) and the values that were there."""

    blinded: NDArray[np.float32]
    at: NDArray[np.intp]
    wanted: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Batch:
    """Patches (N, C, …); blind spots (2 + dimensions, n): patch, channel, place."""

    blinded: Tensor
    at: Tensor
    wanted: Tensor


def _stacked(patches: Sequence[_Patch]) -> _Batch:
    """One batch of patches; where they differ in size, cut to what all have."""
    shapes = np.array([patch.blinded.shape for patch in patches])
    least = shapes.min(axis=0)
    blinded, at, wanted = [], [], []
    for i, patch in enumerate(patches):
        is_kept = (patch.at < least).all(axis=1)
        blinded.append(patch.blinded[tuple(slice(0, n) for n in least)])
        at.append(np.concatenate([np.full((int(is_kept.sum()), 1), i), patch.at[is_kept]], axis=1))
        wanted.append(patch.wanted[is_kept])
    return _Batch(
        torch.from_numpy(np.stack(blinded)),
        torch.from_numpy(np.concatenate(at).T.copy()),
        torch.from_numpy(np.concatenate(wanted)),
    )


def _patch_shape(shape: Sequence[int], settings: N2VTraining, grid_px: int) -> tuple[int, ...]:
    wanted = (settings.patch_depth, settings.patch_px, settings.patch_px)[-len(shape) :]
    return tuple(min(want, size) // grid_px * grid_px for want, size in zip(wanted, shape, strict=True))


def _checked(image: NoisyImage, module: DenoisingNetwork) -> NoisyImage:
    shape = image.pixels.shape
    if len(shape) != module.n_dims + 1 or shape[0] != module.n_channels:
        raise ImageError(
            f"“{image.name}” has the shape {shape}; the network takes {module.n_channels} channel(s) of "
            f"{module.n_dims} dimensions"
        )
    if min(shape[1:]) < module.grid_px:
        raise ImageError(
            f"“{image.name}” is {' × '.join(map(str, shape[1:]))} px; a network that halves the resolution "
            f"{module.unet.settings.depth} times needs {module.grid_px} px along each axis"
        )
    if not np.isfinite(image.pixels).all():
        raise ImageError(f"“{image.name}” has values that are no numbers; replace them first")
    return image


def _pooled(arrays: Sequence[NDArray[np.float32]]) -> tuple[float, float]:
    n = sum(a.size for a in arrays)
    mean = sum(float(a.sum(dtype=np.float64)) for a in arrays) / n
    squares = sum(float(((a - np.float32(mean)).astype(np.float64) ** 2).sum()) for a in arrays) / n
    is_flat = all(float(a.min()) == float(a.max()) == float(arrays[0].flat[0]) for a in arrays)
    return mean, 0.0 if is_flat else float(np.sqrt(squares))


def _window(shape: Sequence[int], patch: Sequence[int], rng: np.random.Generator) -> tuple[slice, ...]:
    starts = [int(rng.integers(size - side + 1)) for size, side in zip(shape, patch, strict=True)]
    return tuple(slice(start, start + side) for start, side in zip(starts, patch, strict=True))


def _turned(image: NDArray[Scalar], symmetry: int) -> NDArray[Scalar]:
    """Symmetry of the plane, of every plane of a volume."""
    if image.ndim == 2:
        return dihedral(image, symmetry)
    return np.stack([dihedral(plane, symmetry) for plane in image])


def _blocks(shape: Sequence[int], settings: N2VTraining, seed: int, index: int) -> list[tuple[slice, slice]]:
    """Squares at random places of a grid over the plane, to keep aside; none where the plane has but one place."""
    side = settings.patch_px
    while side > 8 and (shape[-2] // side) * (shape[-1] // side) < 10:
        side //= 2
    rows, columns = -(-shape[-2] // side), -(-shape[-1] // side)
    n = round(settings.holdout_fraction * rows * columns)
    if rows * columns < 2 or n == 0:
        return []
    rng = np.random.default_rng([_SALT, seed, index])
    places = [divmod(int(i), columns) for i in rng.choice(rows * columns, n, replace=False)]
    return [(slice(side * y, side * (y + 1)), slice(side * x, side * (x + 1))) for y, x in places]


def _mask(image: NoisyImage, blocks: Sequence[tuple[slice, slice]]) -> NDArray[np.bool_]:
    """Where the blocks are, through all planes of a volume."""
    held_out = np.zeros(image.pixels.shape[1:], bool)
    for block in blocks:
        held_out[(..., *block)] = True
    return held_out


def _around(block: tuple[slice, slice], patch: Sequence[int], shape: Sequence[int]) -> tuple[slice, ...]:
    """Window of the size of a patch with the block in its middle, or as near to it as the plane allows."""
    spans = []
    for part, side, size in zip(block, patch, shape, strict=True):
        start = min(max(0, (part.start + part.stop - side) // 2), size - side)
        spans.append(slice(start, start + side))
    return tuple(spans)
