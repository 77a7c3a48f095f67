"""The public Python call: an array in, the enhanced array out."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.axes import SAMPLES, guess_axes
from napari_cellenhance.core.errors import AxesError, ParameterError
from napari_cellenhance.workflows.requests import EnhanceRequest

__all__ = ["enhance"]


def enhance(
    image: Any,
    *,
    model: str = "nunet",
    strength: float | None = None,
    axes: str | None = None,
    is_rgb: bool = False,
    objects_are_dark: bool = False,
    channels: Literal["all", "grey"] | int | Sequence[int] = "all",
    statistics: Literal["plane", "stack"] = "plane",
    device: str = "auto",
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
    tile_px: int | None = None,
) -> NDArray[Any]:
    """Enhance an image; the same pixels as the dock in napari and the command line give.

    Parameters
    ----------
    image : array-like of shape (…, Y, X)
        numpy, dask or zarr, any integer or real dtype; never written to.
    model : str
        Id of a model or of a classical filter, such as ``"nunet"`` or ``"dog"``.
    strength : float, optional
        Position of the slider; default: the filter's own. 0 returns the input unchanged.
    axes : str, optional
        One letter per dimension out of ``TCZYX``, plus ``S`` for the samples of a colour
        image. Default: guessed from the shape; three dimensions without colour are ``ZYX``.
    is_rgb : bool
        The last dimension holds red, green, blue (and alpha). Used where ``axes`` is not given.
    objects_are_dark : bool
        Invert the contrast first: the filters look for bright objects.
    channels : "all", "grey", int, or sequence of int
        Channels (or colours) to enhance; "grey" and a single one drop their axis.
    statistics : "plane" or "stack"
        Measure brightness and contrast for every plane, or once for the whole stack, which
        removes flicker along Z and T.
    device : str
        ``auto``, ``cpu``, ``cuda``, ``cuda:N``, ``mps`` or ``openvino``.
    precision : "auto", "float32" or "bfloat16"
        ``auto`` takes bfloat16 where the processor is fast at it.
    tile_px : int, optional
        Side of a tile, in pixels; default: from the available memory.

    Returns
    -------
    ndarray
        float32 in [0, 1], dimensions as ``image`` (less the channel axis where one channel or
        grey was asked); at strength 0 the input's own pixels and dtype.

    Warns
    -----
    UserWarning
        Flat planes, pixels that are no numbers, or a device that could not be used.

    Raises
    ------
    AxesError
        Axes that do not fit the shape, or a shape whose axes cannot be guessed.
    ImageError
        Complex, empty or all-NaN pixels.
    ParameterError
        A setting outside its range, or colour declared twice in contradiction.
    ModelNotFoundError
        No such filter; the message lists those there are.
    DownloadError, ChecksumError
        The weights cannot be had.
    DeviceError
        Unknown device, or too little memory even for small tiles.

    Examples
    --------
    >>> import numpy as np
    >>> from napari_cellenhance import enhance
    >>> image = np.arange(64.0).reshape(8, 8)
    >>> better = enhance(image, model="percentile-stretch")
    >>> better.shape, better.dtype
    ((8, 8), dtype('float32'))
    """
    from napari_cellenhance.workflows.enhance import run

    pixels = image if hasattr(image, "shape") else np.asarray(image)
    request = EnhanceRequest(
        image=pixels,
        axes=_axes_of(pixels, axes, is_rgb),
        filter_id=model,
        strength=strength,
        objects_are_dark=objects_are_dark,
        channels=_channels_of(channels),
        statistics=statistics,
        device=device,
        precision=precision,
        tile_px=tile_px,
    )
    result = run(request)
    for sentence in result.warnings:
        warnings.warn(sentence, UserWarning, stacklevel=2)
    return result.image


def _axes_of(pixels: Any, axes: str | None, is_rgb: bool) -> str:
    if axes is not None:
        if is_rgb and SAMPLES not in axes.upper():
            raise ParameterError(
                f"is_rgb is set, but axes {axes!r} have no S for the colours; write for example YXS, or leave axes out"
            )
        return axes
    guess = guess_axes(tuple(pixels.shape), is_rgb=is_rgb)
    if not guess.axes:
        raise AxesError(guess.note)
    return guess.axes


def _channels_of(channels: str | int | Sequence[int]) -> Literal["all", "grey"] | tuple[int, ...]:
    if isinstance(channels, str):
        if channels == "all":
            return "all"
        if channels == "grey":
            return "grey"
        raise ParameterError(f"channels is {channels!r}; expected 'all', 'grey', a number or a list of numbers")
    if isinstance(channels, int | np.integer):
        return (int(channels),)
    return tuple(int(channel) for channel in channels)
