"""Count what is done in a run, and say so."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from napari_cellenhance.workflows.progress import OnProgress, Progress

__all__ = ["Tally"]


@dataclass(slots=True)
class Tally:
    """Planes and tiles of a run.

    Parameters
    ----------
    on_progress : callable
    n_planes : int
    tiles_per_plane : int
        May change while running, where memory runs out and tiles become smaller.
    """

    on_progress: OnProgress
    n_planes: int
    tiles_per_plane: int = 1
    planes_done: int = 0
    tiles_done: int = 0
    _started: float = field(default_factory=time.monotonic)

    @property
    def n_done(self) -> int:
        """Tiles finished."""
        return self.planes_done * self.tiles_per_plane + min(self.tiles_done, self.tiles_per_plane)

    @property
    def n_total(self) -> int:
        """Tiles asked."""
        return self.n_planes * self.tiles_per_plane

    def begin_plane(self, tiles_per_plane: int) -> None:
        """Start a plane, or start it again in other tiles."""
        self.tiles_per_plane, self.tiles_done = tiles_per_plane, 0

    def tile_done(self) -> None:
        """Count a tile; the last one of a plane is announced with the plane."""
        self.tiles_done += 1
        if self.tiles_done < self.tiles_per_plane:
            self.say(f"Plane {self.planes_done + 1} of {self.n_planes}, tile {self.tiles_done}")

    def plane_done(self) -> None:
        """Count a plane."""
        self.planes_done, self.tiles_done = self.planes_done + 1, 0
        self.say(f"Plane {self.planes_done} of {self.n_planes}")

    def say(self, message: str) -> None:
        """Report where the run stands, with the time left extrapolated."""
        elapsed, done = time.monotonic() - self._started, self.n_done
        eta = elapsed * (self.n_total - done) / done if done else None
        self.on_progress(Progress(n_done=done, n_total=self.n_total, message=message, eta_s=eta))
