"""Names of an image's dimensions, and the way to the canonical order TCZYX and back."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from napari_cellenhance.core.errors import AxesError, ImageError, ParameterError

__all__ = [
    "AXES",
    "SAMPLES",
    "AxesGuess",
    "check_axes",
    "from_canonical",
    "guess_axes",
    "select_channels",
    "to_canonical",
]

AXES = "TCZYX"
"""Canonical order: time, channel, depth, row, column."""
SAMPLES = "S"
"""Samples of a colour pixel: red, green, blue and perhaps alpha."""

_MAX_SAMPLES = 4
_MAX_CHANNELS_GUESSED = 4
_LUMINANCE = (0.2125, 0.7154, 0.0721)
"""Weights of red, green and blue in the luminance (ITU-R BT.709 primaries)."""

_WORDS = {
    "T": ("t", "time", "times", "frame", "frames", "timepoint", "timepoints", "timelapse"),
    "C": ("c", "ch", "channel", "channels", "wavelength", "lambda", "stain", "marker"),
    "Z": ("z", "depth", "slice", "slices", "plane", "section", "focus"),
    "Y": ("y", "row", "rows", "height"),
    "X": ("x", "col", "cols", "column", "columns", "width"),
    "S": ("s", "sample", "samples", "rgb", "rgba", "color", "colour"),
}
_LETTER_OF_WORD = {word: letter for letter, words in _WORDS.items() for word in words}
_NO_NAME = re.compile(r"(axis|dim|dimension)?[ _]*[-+]?\d*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class AxesGuess:
    """Axes of an image as far as one can tell, to be shown to the user.

    Parameters
    ----------
    axes : str
        One letter per dimension; empty where no such string exists (fewer than two dimensions,
        or more than T, C, Z, Y and X can name).
    source : "labels" or "guess"
        Whether the image says so itself.
    note : str
        A sentence on where they come from.
    """

    axes: str
    source: Literal["labels", "guess"]
    note: str


def guess_axes(shape: Sequence[int], *, is_rgb: bool = False, labels: Sequence[str] = ()) -> AxesGuess:
    """Name the dimensions from their labels, else from their lengths. Never raises.

    Parameters
    ----------
    shape : sequence of int
        All dimensions, those of colour included.
    is_rgb : bool
        The last dimension holds red, green, blue (and alpha).
    labels : sequence of str
        Names as a viewer gives them, such as ``("time", "y", "x")``; for a colour image with or
        without one for the samples. Numbers ("-1", "axis 0") say nothing and are passed over.

    Returns
    -------
    AxesGuess

    Examples
    --------
    >>> guess_axes((20, 512, 512)).axes
    'ZYX'
    >>> guess_axes((20, 512, 512), labels=("time", "y", "x")).axes
    'TYX'
    >>> guess_axes((512, 512, 3), is_rgb=True).axes
    'YXS'
    """
    lengths = tuple(shape)
    n_named = len(lengths) - is_rgb
    guessed = _guess_from_lengths(lengths[:n_named], has_samples=is_rgb)
    tail = SAMPLES if is_rgb else ""
    if not guessed:
        return AxesGuess(
            "",
            "guess",
            f"An image with {len(lengths)} dimensions{' (one of them colour)' if is_rgb else ''} cannot be named by "
            "T, C, Z, Y and X; choose a slice of it with two to five dimensions.",
        )
    letters = _letters_of(labels, n_named)
    named = [letter for letter in letters if letter]
    if not named or len(set(named)) < len(named) or (is_rgb and SAMPLES in named):
        return AxesGuess(guessed + tail, "guess", _sentence(guessed + tail, lengths))
    axes = "".join(_fill(letters, guessed)) + tail
    try:
        check_axes(axes, lengths)
    except AxesError:
        return AxesGuess(guessed + tail, "guess", _sentence(guessed + tail, lengths))
    if all(letters):
        return AxesGuess(axes, "labels", "Axes taken from the layer's axis labels.")
    unnamed = ", ".join(str(i) for i, letter in enumerate(letters) if not letter)
    return AxesGuess(axes, "guess", f"Axes taken from the axis labels; dimension {unnamed} has none and was guessed.")


def _guess_from_lengths(lengths: tuple[int, ...], has_samples: bool) -> str:
    """Letters for dimensions without names; empty where there are too few or too many."""
    n = len(lengths)
    letters = "TZ" if has_samples else "TCZ"
    if not 2 <= n <= 2 + len(letters):
        return ""
    if has_samples:
        return {2: "YX", 3: "ZYX", 4: "TZYX"}[n]
    if n == 2:
        return "YX"
    # Y, X, then a short last dimension: channels that were not declared as colour.
    if 2 <= lengths[-1] <= _MAX_CHANNELS_GUESSED < min(lengths[-2], lengths[-3]):
        return {3: "YXC", 4: "ZYXC", 5: "TZYXC"}[n]
    leading = lengths[:-2]
    channel = next((i for i in _channel_order(n) if 2 <= leading[i] <= _MAX_CHANNELS_GUESSED), None)
    if channel is None and n == 5:
        channel = next((i for i in _channel_order(n) if leading[i] == 1), 1)
    rest = iter({0: "", 1: "Z", 2: "TZ"}[len(leading) - (channel is not None)])
    return "".join("C" if i == channel else next(rest) for i in range(len(leading))) + "YX"


def _channel_order(n: int) -> tuple[int, ...]:
    """Where channels are most usually found among the leading dimensions."""
    return {3: (0,), 4: (1, 0), 5: (1, 2, 0)}[n]


def _letters_of(labels: Sequence[str], n_named: int) -> list[str]:
    """Letter of each label, empty for those that say nothing."""
    names = [str(label).strip().lower() for label in labels]
    if len(names) == n_named + 1 and _LETTER_OF_WORD.get(names[-1]) == SAMPLES:
        names = names[:-1]
    if len(names) != n_named:
        return []
    return ["" if _NO_NAME.fullmatch(name) else _LETTER_OF_WORD.get(name, "") for name in names]


def _fill(letters: Sequence[str], guessed: str) -> list[str]:
    """Give the dimensions without a name the guessed letter, or the next free one."""
    filled = list(letters)
    missing = [i for i, letter in enumerate(letters) if not letter]
    for letter in "XY":  # from the end: rows and columns come last unless said otherwise
        if letter not in filled and missing:
            filled[missing.pop()] = letter
    for i in missing:
        free = [letter for letter in (guessed[i], *"ZTC") if letter not in filled and letter not in "YX"]
        filled[i] = free[0] if free else "?"
    return filled


def _sentence(axes: str, lengths: Sequence[int]) -> str:
    if axes in ("YX", "YXS"):
        return ""
    if "C" in axes:
        n = lengths[axes.index("C")]
        return f"Axes guessed: the dimension of length {n} is taken as channels; correct them if they are wrong."
    return "Axes guessed from the shape; correct them if they are wrong."


def check_axes(axes: str, shape: Sequence[int]) -> str:
    """Check that ``axes`` can name the dimensions of an image of ``shape``.

    Parameters
    ----------
    axes : str
        Any case; one letter per dimension out of ``TCZYX`` and ``S``.
    shape : sequence of int

    Returns
    -------
    str
        The same letters in upper case.

    Raises
    ------
    AxesError
        Unknown or repeated letters, not as many as dimensions, without Y or X, more than four
        samples, or channels and samples at once.
    """
    letters = str(axes).strip().upper()
    lengths = tuple(shape)
    unknown = sorted(set(letters) - set(AXES + SAMPLES))
    if unknown:
        raise AxesError(f"axes {axes!r} contain {', '.join(unknown)}; expected letters out of T, C, Z, Y, X and S")
    repeated = sorted({letter for letter in letters if letters.count(letter) > 1})
    if repeated:
        raise AxesError(f"axes {axes!r} name {', '.join(repeated)} more than once; expected each letter once")
    if len(letters) != len(lengths):
        raise AxesError(
            f"axes {axes!r} name {len(letters)} dimensions, but the image has {len(lengths)} "
            f"(shape {_show(lengths)}); expected one letter per dimension"
        )
    if not {"Y", "X"} <= set(letters):
        raise AxesError(f"axes {axes!r} lack Y or X; expected both, since images are enhanced plane by plane")
    if SAMPLES in letters:
        _check_samples(letters, lengths)
    return letters


def _check_samples(letters: str, lengths: tuple[int, ...]) -> None:
    n_samples = lengths[letters.index(SAMPLES)]
    if n_samples > _MAX_SAMPLES:
        raise AxesError(
            f"S names a dimension of length {n_samples}; colour has at most {_MAX_SAMPLES} samples, "
            "so call it C (channels) instead"
        )
    if "C" in letters and lengths[letters.index("C")] > 1:
        raise AxesError("the image has channels (C) and colour samples (S) at once; choose one channel of it first")


def _show(lengths: Sequence[int]) -> str:
    return " × ".join("?" if isinstance(n, float) and math.isnan(n) else str(n) for n in lengths)


def to_canonical(image: Any, axes: str) -> Any:
    """Bring an image to the order TCZYX without copying a pixel.

    Parameters
    ----------
    image : array-like
        numpy (masked too) and dask arrays keep their kind; chunked stores (zarr, HDF5) are wrapped
        in dask; labelled arrays (xarray) are unwrapped; anything else is converted by numpy.
    axes : str
        One letter per dimension; ``S`` becomes C.

    Returns
    -------
    array of shape (T, C, Z, Y, X)
        A view of numpy data; lazy where the image was.

    Raises
    ------
    AxesError
        Axes that do not fit the shape.
    ImageError
        A pyramid of several resolutions, or something that is no array.
    """
    array = _as_array(image)
    letters = check_axes(axes, array.shape)
    if SAMPLES in letters:
        if "C" in letters:  # of length 1, see check_axes
            array = array[tuple(0 if letter == "C" else slice(None) for letter in letters)]
            letters = letters.replace("C", "")
        letters = letters.replace(SAMPLES, "C")
    present = [letter for letter in AXES if letter in letters]
    array = array.transpose([letters.index(letter) for letter in present])
    return array[tuple(slice(None) if letter in present else None for letter in AXES)]


def _as_array(image: Any) -> Any:
    if isinstance(image, np.ndarray):
        # np.matrix stays two-dimensional whatever is done to it; the mask of a masked array is kept.
        return image if isinstance(image, np.ma.MaskedArray) else image.view(np.ndarray)
    if hasattr(image, "__dask_graph__") and not hasattr(image, "dims"):
        return image
    if hasattr(image, "shapes") or (isinstance(image, list | tuple) and any(hasattr(item, "shape") for item in image)):
        raise ImageError("the image is a pyramid of several resolutions; choose one of its levels, such as image[0]")
    if hasattr(image, "dims") and hasattr(image, "coords"):
        return _as_array(image.data)
    if hasattr(image, "chunks") and hasattr(image, "__getitem__"):
        import dask.array

        return dask.array.from_array(image, chunks=image.chunks or "auto")  # type: ignore[no-untyped-call]
    try:
        return np.asarray(image)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ImageError(
            f"an object of type {type(image).__name__} could not be read as an image ({error}); "
            "expected a numpy, dask or zarr array"
        ) from error


def from_canonical(image5d: Any, axes: str) -> Any:
    """Bring a canonical image back to ``axes``; the exact inverse of :func:`to_canonical`.

    Parameters
    ----------
    image5d : array of shape (T, C, Z, Y, X)
    axes : str
        Axes wanted; ``S`` takes C. Dimensions that are not named must have length 1.

    Returns
    -------
    array
        A view of numpy data.

    Raises
    ------
    AxesError
        Not five dimensions, or an unnamed dimension that is longer than 1.
    """
    if len(image5d.shape) != len(AXES):
        raise AxesError(f"a canonical image has {len(AXES)} dimensions (TCZYX), not {len(image5d.shape)}")
    letters = check_axes(axes, (1,) * len(str(axes).strip()))
    order = letters.replace("C", "").replace(SAMPLES, "C") if SAMPLES in letters else letters
    sizes = dict(zip(AXES, image5d.shape, strict=True))
    lost = [f"{letter} (length {sizes[letter]})" for letter in AXES if letter not in order and sizes[letter] != 1]
    if lost:
        raise AxesError(f"axes {axes!r} do not name {', '.join(lost)}; only dimensions of length 1 can be left out")
    present = [letter for letter in AXES if letter in order]
    array = image5d[tuple(slice(None) if letter in present else 0 for letter in AXES)]
    if SAMPLES in letters:
        present = [SAMPLES if letter == "C" else letter for letter in present]
        if "C" in letters:  # it was of length 1, see to_canonical
            array, present = array[..., None], [*present, "C"]
    array = array.transpose([present.index(letter) for letter in letters])
    check_axes(letters, array.shape)
    return array


def select_channels(
    image5d: Any, axes: str, channels: Literal["all", "grey"] | tuple[int, ...] = "all"
) -> tuple[Any, str]:
    """Choose channels, or colours, of a canonical image.

    Parameters
    ----------
    image5d : array of shape (T, C, Z, Y, X)
        From :func:`to_canonical`; not modified, lazy where it was.
    axes : str
        Axes the image came with, to tell colour samples from channels.
    channels : "all", "grey" or tuple of int
        "grey" is the luminance of colours, and the mean of channels. Alpha never takes part.

    Returns
    -------
    image5d : array of shape (T, n, Z, Y, X)
    axes_out : str
        ``axes``, less the dimension that was dropped: C (or S) for grey or one chosen channel.
        Two chosen colours are channels: their S is renamed to C.

    Raises
    ------
    ParameterError
        Channels that do not exist, repeat, or none at all.
    """
    letters = str(axes).strip().upper()
    is_colour = SAMPLES in letters
    if is_colour and image5d.shape[1] in (2, 4):
        image5d = image5d[:, : image5d.shape[1] - 1]
    dropped = letters.replace(SAMPLES if is_colour else "C", "")
    n = int(image5d.shape[1])
    if isinstance(channels, str):
        if channels == "all":
            return image5d, letters
        if channels != "grey":
            raise ParameterError(f"channels are {channels!r}; expected 'all', 'grey' or numbers from 0 to {n - 1}")
        return _grey(image5d, _LUMINANCE if is_colour and n == 3 else (1.0 / n,) * n), dropped
    chosen = [int(channel) for channel in channels]
    if not chosen or len(set(chosen)) < len(chosen) or not all(0 <= channel < n for channel in chosen):
        raise ParameterError(f"channels {tuple(channels)} were asked for; expected different numbers from 0 to {n - 1}")
    if len(chosen) == 1:
        return image5d[:, chosen[0] : chosen[0] + 1], dropped
    is_renamed = is_colour and len(chosen) == 2 and "C" not in letters
    return image5d[:, chosen], letters.replace(SAMPLES, "C") if is_renamed else letters


def _grey(image5d: Any, weights: Sequence[float]) -> Any:
    """Weighted sum over C, kept as a dimension; floating, and wide enough for the pixels."""
    if len(weights) == 1:
        return image5d
    dtype = np.result_type(image5d.dtype, np.float32)
    # Weighted before summed: values near the largest float must not overflow.
    total = image5d[:, :1].astype(dtype) * dtype.type(weights[0])
    for i, weight in enumerate(weights[1:], start=1):
        total = total + image5d[:, i : i + 1].astype(dtype) * dtype.type(weight)
    return total
