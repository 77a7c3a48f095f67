"""An answer while you paint: the strokes on some layers → the classes of what is on screen."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.axes import check_axes
from napari_cellenhance.core.errors import ImageError
from napari_cellenhance.core.painted import PaintedImage, painted_values
from napari_cellenhance.core.recipes.protocol import Region
from napari_cellenhance.workflows.instant import InstantAnswer, InstantSession, confident_labels
from napari_cellenhance.workflows.paint import plane_of
from napari_cellenhance.workflows.painted_layers import PaintedLayer, classes_of, normalised
from napari_cellenhance.workflows.train_layers import fitting_labels

__all__ = ["LiveAnswer", "LivePaint", "Shown"]

_KEPT_PLANES = 32
CONFIDENCE = 0.9
"""Least probability of a pixel that counts as sure."""

Checkpoint = Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What is on screen.

    Parameters
    ----------
    layer : int
        Number of a layer.
    t, z : int
        Frame and slice.
    region : Region
        Window of that plane.
    """

    layer: int
    t: int
    z: int
    region: Region


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveAnswer:
    """The window in classes.

    Parameters
    ----------
    labels : ndarray of int32, shape (Y, X)
        Label values, of the region.
    region : Region
    seconds : float
        How long it took.
    """

    labels: NDArray[np.int32]
    region: Region
    seconds: float


class LivePaint:
    """Keeps what is needed to answer fast: planes brought to [0, 1], features, the last classifier. Thread-safe.

    Parameters
    ----------
    session : InstantSession, optional
        Another one than the default.
    """

    def __init__(self, session: InstantSession | None = None) -> None:
        self._session = InstantSession() if session is None else session
        self._planes: OrderedDict[Any, tuple[Any, NDArray[np.float32]]] = OrderedDict()
        self._learned = b""
        self._lock = threading.Lock()

    def answer(
        self, layers: Sequence[PaintedLayer], shown: Shown, *, checkpoint: Checkpoint = lambda: None
    ) -> LiveAnswer:
        """Classes of the shown window; learns only where the paint has changed since the last answer.

        Raises
        ------
        ImageError
            Too little paint; a constant plane; labels of another shape.
        AxesError
            Axes that do not fit.
        """
        with self._lock:
            begun = time.perf_counter()
            layer = layers[shown.layer]
            plane = self._plane(layer, shown.t, shown.z)
            painted = self._painted(layers)
            self._check(painted, plane, shown.region, checkpoint)
            digest = _digest(painted)
            if digest != self._learned:
                update = self._session.update(
                    [*painted, _bare(plane, layer.name)], (len(painted), shown.region), checkpoint=checkpoint
                )
                self._learned, labels = digest, update.labels
            else:
                labels = self._session.predict(plane, shown.region, checkpoint=checkpoint).labels
            return LiveAnswer(labels=labels, region=shown.region, seconds=time.perf_counter() - begun)

    def sure(
        self, layers: Sequence[PaintedLayer], *, checkpoint: Checkpoint = lambda: None
    ) -> tuple[PaintedLayer, ...]:
        """The painted planes, painted further wherever the instant answer is sure; strokes stay as they are.

        Parameters
        ----------
        layers : sequence of PaintedLayer
            Not modified.

        Returns
        -------
        tuple of PaintedLayer
            One for each painted plane.

        Raises
        ------
        ImageError, AxesError
            As for :meth:`answer`.
        """
        with self._lock:
            places = list(_painted_places(layers))
            painted = self._painted(layers)
            answers = [
                self._session.update(painted, (i, Region(0, one.image.shape[0], 0, one.image.shape[1])),
                                     checkpoint=checkpoint)
                for i, one in enumerate(painted)
            ]  # fmt: skip
            self._learned = _digest(painted)
            found = zip(places, painted, answers, strict=True)
            return tuple(_further(layer, t, z, one, answer) for (layer, t, z, _), one, answer in found)

    def forget(self) -> None:
        """Free the memory."""
        with self._lock:
            self._planes.clear()
            self._learned = b""
            self._session.forget()

    def _check(
        self, painted: Sequence[PaintedImage], plane: NDArray[np.float32], region: Region, checkpoint: Checkpoint
    ) -> None:
        """Say what paint is missing; look at the window meanwhile, so that the first stroke is answered sooner."""
        try:
            painted_values(painted)
        except ImageError:
            self._session.prepare(plane, region, checkpoint=checkpoint)
            raise

    def _painted(self, layers: Sequence[PaintedLayer]) -> list[PaintedImage]:
        return [
            PaintedImage(self._plane(layer, t, z), classes_of(ids, layer), layer.name)
            for layer, t, z, ids in _painted_places(layers)
        ]

    def _plane(self, layer: PaintedLayer, t: int, z: int) -> NDArray[np.float32]:
        """Read a plane and bring it to [0, 1], or take it from those at hand."""
        key = (id(layer.image), layer.axes, layer.channels, t, z)
        if key not in self._planes:
            plane = normalised(plane_of(layer.image, layer.axes, layer.channels, t=t, z=z))
            if plane.min() == plane.max():
                raise ImageError(f"“{layer.name}” has one single grey value here; there is nothing to tell apart")
            # The image is kept as well: its id is its own only as long as it lives.
            self._planes[key] = (layer.image, plane)
        self._planes.move_to_end(key)
        while len(self._planes) > _KEPT_PLANES:
            self._planes.popitem(last=False)
        return self._planes[key][1]


def _bare(plane: NDArray[np.float32], name: str) -> PaintedImage:
    return PaintedImage(plane, np.zeros(plane.shape, np.int32), name)


def _digest(painted: Sequence[PaintedImage]) -> bytes:
    """What tells whether the paint, or an image under it, has changed."""
    digest = hashlib.blake2b(digest_size=16)
    for one in painted:
        digest.update(repr(one.image.shape).encode())
        digest.update(one.image.data)
        digest.update(one.labels.data)
    return digest.digest()


def _painted_places(layers: Sequence[PaintedLayer]) -> Iterator[tuple[PaintedLayer, int, int, NDArray[Any]]]:
    """Layer, frame, slice and labels of every plane with paint."""
    for layer in layers:
        labels = fitting_labels(layer, check_axes(layer.axes, np.shape(layer.image)))
        for t, z in np.ndindex(*(int(n) for n in labels.shape[:2])):
            ids = np.array(labels[t, z])
            if ids.any():
                yield layer, t, z, ids


def _further(layer: PaintedLayer, t: int, z: int, painted: PaintedImage, answer: InstantAnswer) -> PaintedLayer:
    plane = plane_of(layer.image, layer.axes, layer.channels, t=t, z=z)
    labels = confident_labels(answer, CONFIDENCE, painted=painted.labels)
    return PaintedLayer(name=layer.name, image=plane, axes="YX", labels=labels)
