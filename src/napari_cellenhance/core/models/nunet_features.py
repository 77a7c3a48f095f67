"""What a pretrained NU-Net sees in an image, as features of a linear classifier.

Maps of a network with frozen norms are a function of a pixel's neighbourhood alone: they need no calibration, and a
tile has the same features as the plane it was cut from. The map in use, the first of the decoder, has half the
resolution. A linear classifier commutes with linear interpolation, so it is applied to the small map, and only its few
logits are brought to the resolution of the image.

Filters of the grey values in three scales stand beside it: what is one or two pixels wide they show best.

References
----------
.. [1] Lim et al., "NU-Net: a self-supervised smart filter for enhancing blobs in bioimages", ICCVW 2023.
.. [2] Berg et al., "ilastik: interactive machine learning for (bio)image analysis", Nat. Methods 16, 2019: the filters.

Notes
-----
Maps of the encoder, the trunk and the last one of the decoder were tried too, alone and together: none of them made
the classifier better, and all of them make it slower.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_cellenhance.core.models.nunet import NUNet
from napari_cellenhance.core.models.nunet_frozen import CUT, FrozenNUNet, _scaled
from napari_cellenhance.core.models.nunet_layers import crop
from napari_cellenhance.core.models.nunet_statistics import Source
from napari_cellenhance.core.tiling import Region

__all__ = [
    "FILTER_SCALES_PX", "GRID_PX", "FeatureMap", "NUNetFeatures", "dense_features", "group_sizes", "linear_logits",
    "n_channels", "sample_features",
]  # fmt: skip

FILTER_SCALES_PX = (0.7, 1.6, 3.5)
"""Standard deviations of the Gaussians."""

GRID_PX = 4
"""Windows begin and end on this grid of the padded plane."""

STRENGTH = 5.0
"""Strength at which the decoder of a conditioned network is read."""

_SCALE = 255.0
_FILTERS_PER_SCALE = 4
_MAP_SCALE = 2


@dataclass(frozen=True, slots=True)
class FeatureMap:
    """Features of one resolution on a window of a padded plane.

    Parameters
    ----------
    values : Tensor of shape (h, w, C)
        float32, bfloat16 or float16.
    scale : int
        Pixel (i, j) of the whole map lies on pixel (scale · i, scale · j) of the padded plane.
    origin : tuple of int
        Row and column of ``values[0, 0]`` in the whole map.
    """

    values: Tensor
    scale: int
    origin: tuple[int, int]

    @property
    def n_bytes(self) -> int:
        """Memory of the values."""
        return self.values.numel() * self.values.element_size()


def group_sizes() -> tuple[int, ...]:
    """Number of features of each map, in their order: the filters, then the network's."""
    return 1 + _FILTERS_PER_SCALE * len(FILTER_SCALES_PX), NUNet.n_second


def n_channels() -> int:
    """Number of features of a pixel."""
    return sum(group_sizes())


class NUNetFeatures(FrozenNUNet):
    """Copy of a NU-Net with frozen norms that gives its inner map.

    Parameters
    ----------
    module : NUNet
        Trained network with ``norm="frozen"``; not modified.
    device : str
        Torch device.
    dtype : torch.dtype
        float32, bfloat16 or float16; also that of the features, but for the filters', which are float16.

    Raises
    ------
    ValueError
        A network with instance norms.
    """

    def extract(self, source: Source, region: Region, shape: tuple[int, int]) -> tuple[FeatureMap, ...]:
        """Features of a window with its true context.

        Parameters
        ----------
        source : callable
            Window of the padded plane → float32 tensor (1, 1, h, w), scale 0…255, on the network's device.
        region : Region
            Of the padded plane, on the grid of 4 px.
        shape : tuple of int
            Of the padded plane; multiples of 4, at least 16.

        Returns
        -------
        tuple of FeatureMap
            On the network's device: the filters, then the network's. Equal to the same window of the whole plane's
            features, but for rounding.
        """
        plan = self.plan(region, shape)
        with torch.inference_mode():
            filters = _filters(source, region, shape).to(torch.float16)
            found = self.features(source(plan.source), plan)
            want = _half(region, plan.map_shape(CUT))
            maps = crop(found.relu_() if self._early is None else self._modulated(found), plan.windows[CUT], want)
            return (
                FeatureMap(_channels_last(filters), 1, (region.y0, region.x0)),
                FeatureMap(_channels_last(maps), _MAP_SCALE, (want.y0, want.x0)),
            )

    def _modulated(self, x: Tensor) -> Tensor:
        assert self._early is not None
        return _scaled(x, *(value.to(self.device) for value in self._early.at(STRENGTH))).relu_()


def sample_features(maps: Sequence[FeatureMap], rows: Tensor, columns: Tensor) -> Tensor:
    """Features of single pixels; coarse maps are interpolated bilinearly.

    Parameters
    ----------
    maps : sequence of FeatureMap
    rows, columns : Tensor of int64, shape (n,)
        In the padded plane, inside the window of the maps; on their device.

    Returns
    -------
    Tensor of shape (n, K), float32
    """
    return torch.cat([_sample(each, rows, columns) for each in maps], dim=1)


def linear_logits(maps: Sequence[FeatureMap], weight: Tensor, bias: Tensor, region: Region) -> Tensor:
    """Apply a linear classifier to every pixel of a window.

    Parameters
    ----------
    maps : sequence of FeatureMap
    weight : Tensor of shape (n, K)
        float32.
    bias : Tensor of shape (n,)
        float32.
    region : Region
        Window of the padded plane, on the grid of 4 px, inside that of the maps.

    Returns
    -------
    Tensor of shape (n, h, w), float32
        Equal to the classifier on :func:`sample_features` of each pixel, but for rounding.
    """
    total = bias[:, None, None].expand(-1, *region.shape).clone()
    sizes = [each.values.shape[2] for each in maps]
    for each, part in zip(maps, torch.split(weight, sizes, dim=1), strict=True):
        values = _part(each, region)
        height, width, n = values.shape
        small = values.reshape(-1, n).float() @ part.T
        total += _enlarged(small.T.reshape(-1, height, width), each.scale, region.shape)
    return total


def dense_features(maps: Sequence[FeatureMap], region: Region) -> Tensor:
    """Features of every pixel of a window, float32 of shape (K, h, w); :func:`linear_logits` needs far less memory."""
    parts = [_enlarged(_part(each, region).permute(2, 0, 1).float(), each.scale, region.shape) for each in maps]
    return torch.cat(parts)


def _part(each: FeatureMap, region: Region) -> Tensor:
    """What interpolating inside ``region`` needs of a map."""
    (y, x), more = each.origin, int(each.scale > 1)
    rows = slice(region.y0 // each.scale - y, region.y1 // each.scale + more - y)
    return each.values[rows, region.x0 // each.scale - x : region.x1 // each.scale + more - x]


def _sample(each: FeatureMap, rows: Tensor, columns: Tensor) -> Tensor:
    values, (height, width) = each.values, each.values.shape[:2]
    y0, fy = rows // each.scale - each.origin[0], (rows % each.scale / each.scale)[:, None]
    x0, fx = columns // each.scale - each.origin[1], (columns % each.scale / each.scale)[:, None]
    if each.scale == 1:
        return values[y0, x0].float()
    y1, x1 = (y0 + 1).clamp(max=height - 1), (x0 + 1).clamp(max=width - 1)
    top = torch.lerp(values[y0, x0].float(), values[y0, x1].float(), fx)
    bottom = torch.lerp(values[y1, x0].float(), values[y1, x1].float(), fx)
    return torch.lerp(top, bottom, fy)


def _enlarged(x: Tensor, scale: int, shape: tuple[int, int]) -> Tensor:
    """Coarse map (n, h, w) → ``(n, *shape)``, its nodes on every ``scale``-th pixel; the edge of the plane repeats."""
    if scale == 1:
        return x
    n_rows, n_columns = shape[0] // scale + 1, shape[1] // scale + 1
    x = F.pad(x[None], (0, n_columns - x.shape[2], 0, n_rows - x.shape[1]), mode="replicate")
    size = (shape[0] + 1, shape[1] + 1)
    return F.interpolate(x, size, mode="bilinear", align_corners=True)[0, :, :-1, :-1]


def _half(region: Region, shape: tuple[int, int]) -> Region:
    """What interpolating inside ``region`` needs of a map of half the resolution, whose full size is ``shape``."""
    y1, x1 = region.y1 // _MAP_SCALE + 1, region.x1 // _MAP_SCALE + 1
    return Region(region.y0 // _MAP_SCALE, min(shape[0], y1), region.x0 // _MAP_SCALE, min(shape[1], x1))


def _channels_last(x: Tensor) -> Tensor:
    """Map (1, C, h, w) → (h, w, C) in memory of its own."""
    return x[0].permute(1, 2, 0).clone(memory_format=torch.contiguous_format)


def _filters(source: Source, region: Region, shape: tuple[int, int]) -> Tensor:
    """Grey value; of each scale the Gaussian, its gradient and the two curvatures: (1, 13, h, w), float32."""
    radius = _radius(max(FILTER_SCALES_PX))
    outer = region.grown(radius, shape)
    pad = (
        radius - (region.x0 - outer.x0),
        radius - (outer.x1 - region.x1),
        radius - (region.y0 - outer.y0),
        radius - (outer.y1 - region.y1),
    )
    grey = F.pad(source(outer) / _SCALE, pad, mode="reflect").contiguous()
    found = [_inner(grey, radius)]
    for sigma in FILTER_SCALES_PX:
        found += _filters_of(_inner(grey, radius - _radius(sigma)), sigma)
    return torch.cat(found, dim=1)


def _filters_of(grey: Tensor, sigma: float) -> list[Tensor]:
    kernels = _gaussian_kernels(sigma).to(grey.device)
    down = F.conv2d(grey, kernels[:, None, :, None])
    smooth, first, second = (F.conv2d(down[:, i : i + 1], kernels[: 3 - i, None, None, :]) for i in range(3))
    gradient = torch.hypot(smooth[:, 1:2], first[:, :1])
    mean = (second + smooth[:, 2:3]) / 2
    spread = torch.hypot((second - smooth[:, 2:3]) / 2, first[:, 1:2])
    # Unit: change over one sigma, so that half precision holds all of them.
    return [smooth[:, :1], sigma * gradient, sigma**2 * (mean + spread), sigma**2 * (mean - spread)]


def _gaussian_kernels(sigma: float) -> Tensor:
    """Gaussian, its first and its second derivative, as rows of a float32 tensor."""
    radius = _radius(sigma)
    t = torch.arange(-radius, radius + 1, dtype=torch.float64)
    bell = torch.exp(-(t**2) / (2 * sigma**2))
    bell = bell / bell.sum()
    slope, curve = t / sigma**2 * bell, (t**2 / sigma**4 - 1 / sigma**2) * bell
    return torch.stack([bell, slope, curve - curve.mean()]).float()


def _radius(sigma: float) -> int:
    return int(3 * sigma + 0.999)


def _inner(x: Tensor, by: int) -> Tensor:
    """The map without a margin."""
    return x[:, :, by : x.shape[2] - by, by : x.shape[3] - by]
