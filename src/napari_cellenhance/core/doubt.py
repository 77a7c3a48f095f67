"""Where a restored image should not be trusted: its uncertainty, compared with its contrast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.core.normalize import percentiles

__all__ = [
    "DEFAULT_SHARE",
    "GUARD_SHARE",
    "DoubtScore",
    "contrast_of",
    "doubt_labels",
    "likely_error",
    "score_doubt",
    "share_to_begin",
]

DEFAULT_SHARE = 0.03
"""Likely error, as a share of the contrast, above which a pixel is not trusted."""
MOST_DOUBTED = 0.25
"""Share of the pixels above which nothing would be told from the rest."""
GUARD_SHARE = 0.1
"""Difference, as a share of the contrast, that guards tell of; their rates were measured with it."""
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
    >>> contrast_of(np.linspace(0.0, 100.0, 1001)).round().tolist()
    [98.0]
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


def share_to_begin(scale: NDArray[np.float32], contrast: NDArray[np.float32]) -> float:
    """Share of the contrast to begin with: the usual one, or the least that leaves three quarters of the pixels.

    A network that has learned for a minute is unsure everywhere by the usual measure; then its least sure places are
    worth more than a picture that is marked all over.

    Parameters
    ----------
    scale, contrast : ndarray of float32
        As for :func:`doubt_labels`. Of a large image every n-th value is looked at.

    Returns
    -------
    float
        ``DEFAULT_SHARE``, or a larger one in steps of 0.001.

    Examples
    --------
    >>> share_to_begin(np.full(9, 1.0, np.float32), np.float32([100.0]))
    0.03
    >>> share_to_begin(np.linspace(0, 40, 101).astype(np.float32), np.float32([100.0]))
    0.208
    """
    values = np.asarray(likely_error(scale) / contrast).reshape(-1)
    values = values[:: max(1, values.size // _MOST_PX)]
    least = float(percentiles(values, (100 * (1 - MOST_DOUBTED),))[0])
    return max(DEFAULT_SHARE, float(np.ceil(least * 1000) / 1000))


@dataclass(frozen=True, slots=True, kw_only=True)
class DoubtScore:
    """How doubt agrees with the truth, counted over pixels; scores of several images are added with ``+``.

    A pixel is *wrong* where its error exceeds the share of the contrast, *doubted* where its likely error does.

    Parameters
    ----------
    share : float
        Of the contrast.
    n_px, n_doubted, n_wrong, n_both : int
        All pixels, doubted ones, wrong ones, doubted and wrong ones.
    sum_doubted, sum_trusted : float
        Absolute errors of doubted and of other pixels, as shares of the contrast, added up.

    Examples
    --------
    >>> one = DoubtScore(share=0.1, n_px=10, n_doubted=4, n_wrong=5, n_both=3, sum_doubted=0.8, sum_trusted=0.3)
    >>> one.doubted, one.precision, one.recall, one.error_doubted
    (0.4, 0.75, 0.6, 0.2)
    >>> (one + one).n_px
    20
    """

    share: float
    n_px: int
    n_doubted: int
    n_wrong: int
    n_both: int
    sum_doubted: float
    sum_trusted: float

    def __add__(self, other: DoubtScore) -> DoubtScore:
        if other.share != self.share:
            raise ParameterError(f"shares {self.share} and {other.share} cannot be added; expected the same")
        return DoubtScore(
            share=self.share, n_px=self.n_px + other.n_px, n_doubted=self.n_doubted + other.n_doubted,
            n_wrong=self.n_wrong + other.n_wrong, n_both=self.n_both + other.n_both,
            sum_doubted=self.sum_doubted + other.sum_doubted, sum_trusted=self.sum_trusted + other.sum_trusted,
        )  # fmt: skip

    @property
    def doubted(self) -> float:
        """Share of the pixels that is doubted."""
        return _part(self.n_doubted, self.n_px)

    @property
    def wrong(self) -> float:
        """Share of the pixels that is wrong."""
        return _part(self.n_wrong, self.n_px)

    @property
    def precision(self) -> float:
        """Share of the doubted pixels that is wrong."""
        return _part(self.n_both, self.n_doubted)

    @property
    def recall(self) -> float:
        """Share of the wrong pixels that is doubted."""
        return _part(self.n_both, self.n_wrong)

    @property
    def wrong_trusted(self) -> float:
        """Share of the pixels that are not doubted and wrong all the same."""
        return _part(self.n_wrong - self.n_both, self.n_px - self.n_doubted)

    @property
    def error_doubted(self) -> float:
        """Mean absolute error of doubted pixels, as a share of the contrast."""
        return _part(self.sum_doubted, self.n_doubted)

    @property
    def error_trusted(self) -> float:
        """Mean absolute error of the others."""
        return _part(self.sum_trusted, self.n_px - self.n_doubted)


def _part(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")


def score_doubt(
    error: NDArray[np.floating], scale: NDArray[np.float32], contrast: NDArray[np.float32], shares: Sequence[float]
) -> list[DoubtScore]:
    """Compare doubt with errors that are known.

    Parameters
    ----------
    error, scale : ndarray of one shape
        Restored less true image, and σ, in the same grey values.
    contrast : ndarray of float32
        As for :func:`doubt_labels`.
    shares : sequence of float
        Of the contrast, to try.

    Returns
    -------
    list of DoubtScore
        One for each share.

    Raises
    ------
    ParameterError
        A share below 0.

    Examples
    --------
    >>> found = score_doubt(np.float32([0, 30, 30]), np.float32([1, 1, 40]), np.float32([100]), (0.1, 0.25))
    >>> [(one.n_doubted, one.n_wrong, one.n_both) for one in found]
    [(1, 2, 1), (1, 2, 1)]
    """
    of_contrast = np.abs(error) / contrast
    found = []
    for share in shares:
        is_doubted, is_wrong = doubt_labels(scale, contrast, share).astype(bool), of_contrast > share
        found.append(
            DoubtScore(
                share=share, n_px=int(is_doubted.size), n_doubted=int(is_doubted.sum()), n_wrong=int(is_wrong.sum()),
                n_both=int((is_doubted & is_wrong).sum()), sum_doubted=float(of_contrast[is_doubted].sum()),
                sum_trusted=float(of_contrast[~is_doubted].sum()),
            )
        )  # fmt: skip
    return found
