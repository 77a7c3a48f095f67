"""What denoising and restoring have in common: which pixels are read, tiles that fit the memory, the record."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import DeviceError
from napari_cellenhance.core.normalize import sanitize
from napari_cellenhance.core.tiling import Region
from napari_cellenhance.workflows._planes import OpenedImage, open_image, pooled_planes
from napari_cellenhance.workflows._provenance import (
    Asked,
    Measured,
    describe_step,
    maker_of_card,
    repeated_notes,
)
from napari_cellenhance.workflows.input_guards import InputWatch
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, Progress
from napari_cellenhance.workflows.requests import EnhanceRequest
from napari_cellenhance.zoo.cards import ModelCard

if TYPE_CHECKING:
    from napari_cellenhance.core.device import DeviceChoice

__all__ = ["TiledRun", "Unit", "record_of"]

_TILE_PX = 512
_LEAST_TILE_PX = 64

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Unit:
    """What goes through the network at once: time point, channels, and planes."""

    t: int
    channels: tuple[int, ...]
    planes: slice


class TiledRun:
    """One run over an image: which pixels, in which tiles, how far.

    Parameters
    ----------
    reading : EnhanceRequest
        Its image, axes, channels and region say which pixels are read.
    choice : DeviceChoice
    tile_px : int or None
    """

    verb = "Working"
    advice = "choose a smaller region"

    def __init__(
        self,
        reading: EnhanceRequest,
        choice: DeviceChoice,
        tile_px: int | None,
        on_progress: OnProgress,
        is_cancelled: IsCancelled,
    ) -> None:
        self.image: OpenedImage = open_image(reading)
        self.choice, self.on_progress, self.is_cancelled = choice, on_progress, is_cancelled
        height, width = self.image.shape[-2:]
        self.window = reading.region or Region(0, height, 0, width)
        self.tile_px = tile_px or _TILE_PX
        self.warnings: list[str] = [choice.note] if choice.is_fallback else []
        self.n_bad = self.n_flat = self.n_tiles_done = 0
        self.watch: InputWatch | None = None

    def units(self, *, are_together: bool, are_volumes: bool) -> Iterator[Unit]:
        """All channels together or one by one; planes or volumes."""
        n_t, n_c, n_z = self.image.shape[:3]
        together = [tuple(range(n_c))] if are_together else [(c,) for c in range(n_c)]
        planes = [slice(0, n_z)] if are_volumes else [slice(z, z + 1) for z in range(n_z)]
        for channels in together:
            for t in range(n_t):
                for part in planes:
                    yield Unit(t, channels, part)

    def do_each(self, units: Sequence[Unit], work: Callable[[Unit], None]) -> bool:
        """Work on one after the other; False where it was cancelled in between."""
        from napari_cellenhance.core.inference import Cancelled

        try:
            for unit in units:
                self.checkpoint()
                work(unit)
        except Cancelled:
            return False
        return True

    def read(self, unit: Unit) -> NDArray[Any]:
        """Raw pixels (C, Z, Y, X), all finite."""
        raw = [
            [self.image.read((unit.t, c, z)) for z in range(unit.planes.start, unit.planes.stop)] for c in unit.channels
        ]
        filled, n_bad = sanitize(np.stack([np.stack(volume) for volume in raw]))
        self.n_bad += n_bad
        if self.watch is not None:
            self.watch.see(filled[0, filled.shape[1] // 2])
        return filled

    def pooled(self, channel: int) -> list[NDArray[Any]]:
        """Planes that stand for the whole stack of a channel, all finite."""
        return [sanitize(self.image.read(index))[0] for index in pooled_planes(self.image, channel)]

    def in_tiles(self, attempt: Callable[[int], Found]) -> Found:
        """Call with the side of a tile; again with smaller ones where the memory runs out.

        Raises
        ------
        DeviceError
            Not even the smallest fit.
        """
        from napari_cellenhance.core.device import is_out_of_memory

        while True:
            try:
                return attempt(self.tile_px)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if self.tile_px <= _LEAST_TILE_PX:
                    raise DeviceError(
                        f"not enough memory even in tiles of {self.tile_px} px; close other programs or layers, or "
                        f"{self.advice}"
                    ) from error
                self.tile_px = max(_LEAST_TILE_PX, self.tile_px // 2)
                self.warnings.append(f"Memory ran out; continued with tiles of {self.tile_px} px.")

    def tell(self, n_total: int) -> None:
        """Report that one more tile is done."""
        self.n_tiles_done += 1
        done = min(self.n_tiles_done, n_total)
        self.on_progress(Progress(n_done=done, n_total=n_total, message=f"{self.verb}, tile {done} of {n_total}"))

    def checkpoint(self) -> None:
        """Stop here if that was asked for."""
        from napari_cellenhance.core.inference import Cancelled

        if self.is_cancelled():
            raise Cancelled

    def warn_if_repeated(self, card: ModelCard, earlier: Mapping[str, Any] | None) -> None:
        """Say so where the image was made by the same method already."""
        self.warnings += repeated_notes(maker_of_card(card), earlier)

    def look_at_input(self, card: ModelCard) -> None:
        """From now on look whether what is read is empty, cut off, or unlike the training images."""
        self.watch = InputWatch(card)

    def notes(self) -> list[str]:
        """Sentences on what was odd."""
        notes = list(self.warnings)
        if self.n_bad:
            notes.append(f"{self.n_bad} pixels were no numbers; they were filled with the median first.")
        if self.n_flat:
            noun = "plane" if self.n_flat == 1 else "planes"
            notes.append(f"{self.n_flat} {noun} of one single grey value: left as they are.")
        return notes if self.watch is None else notes + self.watch.sentences()


def record_of(
    run: TiledRun,
    request: Asked,
    card: ModelCard,
    step: str,
    normalizers: Mapping[str, Any],
    warnings: Sequence[str],
    calibration: Mapping[str, Any],
    **own: Any,
) -> dict[str, Any]:
    """How the result was made, ready for JSON."""
    measured = Measured(
        axes_out=run.image.axes,
        normalization={
            "name": card.normalization.name, "settings": dict(card.normalization.parameters),
            "fitted": dict(normalizers),
        },
        calibration=calibration, device=run.choice.device, precision=run.choice.precision, tile_px=run.tile_px,
    )  # fmt: skip
    looked = {} if run.watch is None else {"input_check": run.watch.record()}
    return describe_step(step, request, maker_of_card(card), measured, warnings, **looked, **own)
