"""A large image as planes of which only windows are read, and the normalised planes that filters see."""

from __future__ import annotations

import hashlib
import mmap
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.axes import check_axes, select_channels
from napari_cellenhance.core.errors import AxesError, ImageError
from napari_cellenhance.core.normalize import Normalizer
from napari_cellenhance.core.recipes.protocol import Checkpoint
from napari_cellenhance.core.streamed import Blocks, Counted, fit_streamed
from napari_cellenhance.core.tiling import Region, split
from napari_cellenhance.io.lazy_images import LazyImage
from napari_cellenhance.workflows import _planes
from napari_cellenhance.workflows._planes import PlaneIndex
from napari_cellenhance.workflows.catalog import FilterSpec
from napari_cellenhance.workflows.requests import EnhanceRequest

__all__ = ["READ_PX", "LargeSource", "Measured", "PlaneStore"]

READ_PX = 2048
"""Side of the windows that statistics are gathered from, in pixels."""
_N_SAMPLES, _SAMPLE_PX = 16, 64


@dataclass(frozen=True, slots=True)
class Measured:
    """How a plane, or a stack, is normalised.

    Parameters
    ----------
    normalizer : Normalizer
    fill : float
        What stands for pixels that are no numbers: the median of the others.
    n_bad : int
        How many there are.
    """

    normalizer: Normalizer
    fill: float
    n_bad: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; read back by :meth:`from_dict`."""
        return {"normalizer": self.normalizer.to_dict(), "fill": self.fill, "n_bad": self.n_bad}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Measured:
        """Inverse of :meth:`to_dict`."""
        return cls(Normalizer.from_dict(stored["normalizer"]), float(stored["fill"]), int(stored["n_bad"]))


class LargeSource:
    """Planes of a lazy image, with channels chosen; reads windows only.

    Parameters
    ----------
    image : LazyImage
    settings : EnhanceRequest
        Its axes (if any), channels and contrast count.

    Raises
    ------
    AxesError, ImageError, ParameterError
        Axes or channels that do not fit, or pixels that are no real numbers.
    """

    def __init__(self, image: LazyImage, settings: EnhanceRequest) -> None:
        if not (settings.axes or image.axes):
            raise AxesError("the file does not name its axes; say them, for example --axes ZYX")
        self.pixels = image.levels[0]
        self.axes = check_axes(settings.axes or image.axes, self.pixels.shape)
        if self.pixels.dtype.kind not in "buif":
            raise ImageError(f"pixels are of type {self.pixels.dtype}; expected integers or real numbers")
        if self.pixels.size == 0:
            raise ImageError(f"the image has shape {self.pixels.shape} and thus no pixels; choose another one")
        self._is_dark, self._channels = settings.objects_are_dark, settings.channels
        lengths = dict(zip(self.axes, self.pixels.shape, strict=True))
        n_all = lengths.get("S", lengths.get("C", 1))
        one_pixel = np.broadcast_to(np.zeros((), self.pixels.dtype), (1, n_all, 1, 1, 1))
        chosen, axes_out = select_channels(one_pixel, self.axes, self._channels)
        n_chosen = int(chosen.shape[1])
        self.dtype = chosen.dtype
        self._of = self._channels if isinstance(self._channels, tuple) else tuple(range(n_chosen))
        self.shape = (lengths.get("T", 1), n_chosen, lengths.get("Z", 1), lengths["Y"], lengths["X"])
        self.axes_out = "".join(letter for letter in "TCZYX" if letter in axes_out.replace("S", "C"))
        names = image.channel_names if len(image.channel_names) == n_all else ()
        self.channel_names = tuple(names[c] for c in self._of) if names and "C" in axes_out else ()
        sizes = image.pixel_size_um
        self.pixel_size_um = {letter: size for letter, size in sizes.items() if letter in self.axes_out}

    @property
    def plane_px(self) -> int:
        """Pixels of one plane."""
        return self.shape[3] * self.shape[4]

    def read(self, index: PlaneIndex, window: Region) -> NDArray[Any]:
        """Window of a plane, in memory."""
        t, c, z = index
        if self._channels == "grey":
            block = self._pick(t, slice(None), z, window)[None, :, None]
            grey: NDArray[Any] = select_channels(block, self.axes, "grey")[0][0, 0, 0]
            return grey
        return self._pick(t, self._of[c], z, window)

    def _pick(self, t: int, channel: int | slice, z: int, window: Region) -> NDArray[Any]:
        """Shape (Y, X), or (C, Y, X) for several channels."""
        rows, columns = window.slices
        places: dict[str, int | slice] = {"T": t, "C": channel, "Z": z, "Y": rows, "X": columns, "S": channel}
        if "S" in self.axes:
            places["C"] = 0  # of length 1
        found = self.pixels[tuple(places[letter] for letter in self.axes)]
        left = [letter for letter in self.axes if isinstance(places[letter], slice)]
        if isinstance(channel, slice) and len(left) == 2:  # no channels at all
            found, left = found[None], ["C", *left]
        order = [letter for letter in "SCYX" if letter in left]
        return found.transpose([left.index(letter) for letter in order])

    def blocks(self, indices: Sequence[PlaneIndex], checkpoint: Checkpoint) -> Blocks:
        """Walks over whole planes, window by window."""

        def walk() -> Iterator[NDArray[Any]]:
            for index in indices:
                for tile in split(self.shape, READ_PX, 0):
                    checkpoint()
                    yield self.read(index, tile.core)

        return walk

    def measure(self, spec: FilterSpec, indices: Sequence[PlaneIndex], checkpoint: Checkpoint) -> Measured:
        """What ``_planes.fit`` finds on the same planes in memory, without having them there."""
        counted = Counted(self.blocks(indices, checkpoint))
        normalizer = fit_streamed(spec.normalizer, counted, **dict(spec.normalizer_settings))
        if normalizer.is_flat:
            normalizer = fit_streamed("minmax", counted)
        fill = counted.percentiles((50.0,))[0] if counted.n_bad else 0.0
        return Measured(normalizer, fill, counted.n_bad)

    def base(self, index: PlaneIndex, window: Region, measured: Measured) -> NDArray[np.float32]:
        """Window of a plane as a filter sees it."""
        raw = self.read(index, window)
        if measured.n_bad:
            raw = np.where(np.isfinite(raw), raw, raw.dtype.type(measured.fill))
        return _planes.prepare(raw, measured.normalizer, self._is_dark).base

    def bad(self, index: PlaneIndex, window: Region) -> NDArray[np.bool_]:
        """Pixels of a window that are no numbers."""
        bad: NDArray[np.bool_] = ~np.isfinite(self.read(index, window))
        return bad

    def sample(self) -> str:
        """SHA-256 of a few windows all over the image: a changed image is found, most probably."""
        digest = hashlib.sha256()
        n_t, n_c, n_z, height, width = self.shape
        for i in range(_N_SAMPLES):
            share = i / (_N_SAMPLES - 1)
            index = (round(share * (n_t - 1)), i % n_c, round(share * (n_z - 1)))
            y, x = int(share * max(0, height - _SAMPLE_PX)), int((i * 7 % 16) / 15 * max(0, width - _SAMPLE_PX))
            window = Region(y, min(height, y + _SAMPLE_PX), x, min(width, x + _SAMPLE_PX))
            digest.update(np.ascontiguousarray(self.read(index, window)).tobytes())
        return digest.hexdigest()


class PlaneStore:
    """Normalised planes: in memory, or in a file without a name where they are too large for it.

    Parameters
    ----------
    folder : Path
        Where such a file is made. It is gone when the program ends, however it ends.
    limit_bytes : int
        Planes up to this size stay in memory.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._folder, self._limit_bytes = folder, limit_bytes
        self._mapped: list[mmap.mmap] = []

    @contextmanager
    def planes(self, shape: tuple[int, int], n: int = 1) -> Iterator[list[NDArray[np.float32]]]:
        """Planes of zeros to be filled, until the block ends.

        Raises
        ------
        OSError
            Not enough room on the disk.
        """
        n_bytes = shape[0] * shape[1] * 4
        if n * n_bytes <= self._limit_bytes:
            yield [np.zeros(shape, np.float32) for _ in range(n)]
            return
        with tempfile.TemporaryFile(dir=self._folder) as stream:
            _reserve(stream.fileno(), n * n_bytes)
            mapped = mmap.mmap(stream.fileno(), n * n_bytes)
            self._mapped.append(mapped)
            try:
                # Not closed: views of it may live on in the caches of a filter. It goes with the last of them.
                yield list(np.frombuffer(mapped, np.float32).reshape(n, *shape))
            finally:
                self._mapped.remove(mapped)

    def let_go(self) -> None:
        """Give the memory of what was looked at back to the system; the planes stay readable."""
        if hasattr(mmap, "MADV_DONTNEED"):
            for mapped in self._mapped:
                mapped.madvise(mmap.MADV_DONTNEED)


def _reserve(descriptor: int, n_bytes: int) -> None:
    # A file with holes would end the program, not raise, when the disk turns out to be full.
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, n_bytes)
    else:
        os.truncate(descriptor, n_bytes)
