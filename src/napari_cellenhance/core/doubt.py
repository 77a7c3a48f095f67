"""Where a restored image should not be trusted: its uncertainty, compared with its contrast."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.core.normalize import percentiles

__all__ = ["DEFAULT_SHARE", "contrast_of", "doubt_labels", "likely_error"]

DEFAULT_SHARE = 0.1
"""Likely error, as a share of the contrast, above which a pixel is not trusted."""
_LO, _HI = 2.0, 99.8
_MOST_PX = 1 << 22
_LEAST = 1e-6
"""Share of all grey values below which the percentiles saw one value only."""
_LN2 = float(np.log(2.0))


def likely_error(scale: NDArray[np.floating]) -> NDArray[np.float32]:
    """Error that half of the pixels stay below: σ·ln 2, the median of a Laplace distribution.

    Parameters
    ----------
    scale : ndarray of any shape
        σ of every pixel, in grey values.
    """
    return np.asarray(scale * np.float32(_LN2), np.float32)


def contrast_of(image: NDArray[np.floating], channel_axis: int | None = None) -> NDArray[np.float32]:
    """Grey values between the percentiles 2 and 99.8 of an image, or of each of its channels.

    Parameters
    ----------
    image : ndarray of any shape
        Finite. Of a large one every n-th value is looked at.
    channel_axis : int, optional
        Channels have contrasts of their own.

    Returns
    -------
    ndarray of float32, as many dimensions
        Of length 1 along all of them but the channels; more than 0.

    Examples
    --------
    >>> contrast_of(np.linspace(0.0, 100.0, 1001)).round(1).tolist()
    [97.8]
    """
    kept = [1] * image.ndim
    if channel_axis is None:
        channels = [image]
    else:
        kept[channel_axis] = image.shape[channel_axis]
        channels = list(np.moveaxis(image, channel_axis, 0))
    found = []
    for channel in channels:
        values = channel.reshape(-1)
        values = values[:: max(1, values.size // _MOST_PX)]
        whole = float(values.max()) - float(values.min())
        low, high = percentiles(values, (_LO, _HI)) if whole > 0 else (0.0, 1.0)
        found.append(high - low if high - low > _LEAST * whole else whole)
    return np.asarray(found, np.float32).reshape(kept)


def doubt_labels(
    scale: NDArray[np.float32], contrast: NDArray[np.float32], share: float = DEFAULT_SHARE
) -> NDArray[np.uint8]:
    """Pixels whose likely error exceeds a share of the contrast, as labels.

    Parameters
    ----------
    scale : ndarray of float32
        σ of every pixel, in grey values.
    contrast : ndarray of float32
        Of :func:`contrast_of`, or anything that fits the shape.
    share : float
        0 doubts every pixel that the network is not perfectly sure of.

    Returns
    -------
    ndarray of uint8, shape of ``scale``
        1 where the image should not be trusted, else 0.

    Raises
    ------
    ParameterError
        A share below 0.

    Examples
    --------
    >>> doubt_labels(np.float32([0.0, 10.0, 20.0]), np.float32([100.0]), 0.1).tolist()
    [0, 0, 1]
    """
    if not share >= 0:
        raise ParameterError(f"the share of the contrast is {share}; expected 0 or more")
    return (likely_error(scale) > np.float32(share) * contrast).astype(np.uint8)
