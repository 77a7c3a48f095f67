"""The blocks of a large image, one after the other in this process."""

from __future__ import annotations

from dataclasses import dataclass

from napari_cellenhance.core.recipes.protocol import Checkpoint
from napari_cellenhance.workflows._large_blocks import STACK, PlaneMaker
from napari_cellenhance.workflows._large_ledger import Ledger, Missing
from napari_cellenhance.workflows._large_source import Measured
from napari_cellenhance.workflows._planes import PlaneIndex

__all__ = ["LocalWork"]


@dataclass(frozen=True, slots=True)
class LocalWork:
    """Does what is missing."""

    ledger: Ledger
    maker: PlaneMaker
    checkpoint: Checkpoint

    def run(self) -> bool:
        """Full image first, then the pyramid; False where it was cancelled."""
        from napari_cellenhance.core.inference import Cancelled

        try:
            for channel in range(self.ledger.n_c):
                if missing := self.ledger.missing(0, channel):
                    self._enhance(channel, missing)
            for level in range(1, self.ledger.n_levels):
                for channel in range(self.ledger.n_c):
                    self._shrink(level, channel)
        except Cancelled:
            return False
        return True

    def _enhance(self, channel: int, missing: Missing) -> None:
        maker = self.maker
        if maker.engine is None or maker.settings.statistics == "plane":
            for index in missing:
                measured = None if maker.engine is None else self._measure(index, [index])
                self._enhance_plane(index, missing, measured)
            return
        measured = self._measure((STACK, channel, STACK), maker.pooled(channel))
        self.ledger.say("Reading the stack")
        with maker.stack(channel, measured) as calibration:
            for index in missing:
                self._enhance_plane(index, missing, measured, calibration)

    def _enhance_plane(
        self, index: PlaneIndex, missing: Missing, measured: Measured | None, calibration: object = None
    ) -> None:
        self.ledger.say(f"Reading plane {self.ledger.name(index)}")
        with self.maker.plane(index, measured, calibration) as make:
            for region in missing[index]:
                self.checkpoint()
                image = make(region)
                with self.ledger.writing():
                    self.ledger.blocks.keep(0, index, region, image)
                self.ledger.add_done(0, index, region.y0, region.x0)

    def _measure(self, key: PlaneIndex, planes: list[PlaneIndex]) -> Measured:
        known = self.ledger.measured.get(key)
        if known is not None:
            return known
        self.ledger.say("Measuring the stack" if key[0] == STACK else f"Measuring plane {self.ledger.name(key)}")
        measured = self.maker.source.measure(self.maker.spec, planes, self.checkpoint)
        self.ledger.add_measured(key, measured)
        return measured

    def _shrink(self, level: int, channel: int) -> None:
        for index, regions in self.ledger.missing(level, channel).items():
            for region in regions:
                self.checkpoint()
                image = self.ledger.blocks.halved(level, index, region)
                with self.ledger.writing():
                    self.ledger.blocks.keep(level, index, region, image)
                self.ledger.add_done(level, index, region.y0, region.x0)
