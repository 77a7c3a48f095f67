"""Paint and see: an answer within a second of a stroke, and the same paint refined again and again.

The session keeps the features of what was painted or shown, so that a further stroke costs only the fit.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.core.painted import NOT_PAINTED, PaintedImage
from napari_cellenhance.core.tiling import Region

if TYPE_CHECKING:
    from napari_cellenhance.core.recipes.instant import (
        InstantFeatures,
        InstantLearner,
        InstantPrediction,
        InstantSettings,
        LinearHead,
        TileFeatures,
    )

__all__ = ["MODEL_ID", "InstantAnswer", "InstantSession", "confident_labels"]

MODEL_ID = "nunet"
"""The network whose features are used; bundled."""

CACHE_MB = 1000

Checkpoint = Callable[[], None]
Plane = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class InstantAnswer:
    """What the strokes so far say about the shown region.

    Parameters
    ----------
    index : int
        Number of the shown image.
    region : Region
        Of its plane.
    labels : ndarray of int32, shape (Y, X)
        Label values, of the region.
    probabilities : ndarray of float32, shape (C, Y, X)
        Sum to 1.
    values : tuple of int
        Label value of each class, increasing.
    new_values : tuple of int
        Those that the answer before did not have; all of them in the first one.
    seconds : dict of str to float
        ``features``, ``fit``, ``predict`` and ``total``.
    n_tiles_computed : int
        Tiles whose features were not at hand.
    """

    index: int
    region: Region
    labels: NDArray[np.int32]
    probabilities: NDArray[np.float32]
    values: tuple[int, ...]
    new_values: tuple[int, ...]
    seconds: dict[str, float]
    n_tiles_computed: int


class InstantSession:
    """A pretrained network, the features it gave so far, and the last classifier.

    Nothing is loaded before the first call that needs it. One call at a time runs; others wait for it.

    Parameters
    ----------
    device, precision : str
        As in ``core.device.choose_device``.
    cache_mb : int
        Memory for features, in MB; a plane of 1000 × 1000 pixels takes 58 in 16 bits and 90 in float32.
    settings : InstantSettings or None
        How strokes become a classifier; None for the defaults.
    features : InstantFeatures or None
        Another source of features; None opens the bundled network.

    Raises
    ------
    ParameterError
        A negative amount of memory.
    """

    def __init__(
        self,
        device: str = "auto",
        precision: str = "auto",
        *,
        cache_mb: int = CACHE_MB,
        settings: InstantSettings | None = None,
        features: InstantFeatures | None = None,
    ) -> None:
        if cache_mb < 0:
            raise ParameterError(f"cache_mb is {cache_mb}; expected 0 or more")
        self._asked, self._settings, self._features = (device, precision), settings, features
        self._cache = _TileCache(cache_mb * 10**6)
        self._learner: InstantLearner | None = None
        self._head: LinearHead | None = None
        self._answered: tuple[int, ...] = ()
        self._lock = threading.Lock()

    @property
    def head(self) -> LinearHead | None:
        """The last classifier; None before the first answer."""
        return self._head

    @property
    def n_bytes(self) -> int:
        """Memory of the features that are kept."""
        return self._cache.n_bytes

    def prepare(self, plane: NDArray[Any], region: Region, *, checkpoint: Checkpoint = lambda: None) -> int:
        """Compute the features of a region ahead of the first stroke.

        Parameters
        ----------
        plane : ndarray of shape (Y, X)
            As in :class:`~napari_cellenhance.core.painted.PaintedImage`.
        region : Region
            Of the plane, such as what the window shows.
        checkpoint : callable
            Called before each tile; raises to stop.

        Returns
        -------
        int
            Tiles that were computed.

        Raises
        ------
        ImageError
            Not a plane that can be learned from.
        ParameterError
            A region that is empty or not inside the plane.
        """
        from napari_cellenhance.core.recipes.instant import check_region

        image = PaintedImage(plane, np.zeros(np.shape(plane), np.int32)).image
        check_region(region, image.shape)
        with self._lock:
            store = self._store([image])
            for tile in store.touching(0, region):
                checkpoint()
                store.look(0, tile)
        return store.n_computed

    def update(
        self,
        images: Sequence[PaintedImage],
        shown: tuple[int, Region],
        *,
        checkpoint: Checkpoint = lambda: None,
    ) -> InstantAnswer:
        """Learn from all the paint there is, and answer for the shown region.

        Parameters
        ----------
        images : sequence of PaintedImage
            Everything painted, not only what is new. Images are told apart by their pixels: the same image painted
            further keeps its features.
        shown : (int, Region)
            Number of an image, painted or not, and a window of its plane.
        checkpoint : callable
            Called between small units of work; raises to stop, when a newer stroke has made this one stale. What was
            computed by then is kept.

        Raises
        ------
        ImageError
            Too little paint, see :func:`~napari_cellenhance.core.painted.painted_values`.
        ParameterError
            A number or a region that does not exist.
        """
        index, region = shown
        if not 0 <= index < len(images):
            raise ParameterError(
                f"image {index} is shown, but there are {len(images)}; expected 0 to {len(images) - 1}"
            )
        from napari_cellenhance.core.recipes.instant import check_region

        check_region(region, images[index].image.shape)
        with self._lock:
            return self._answer(images, index, region, checkpoint)

    def predict(
        self, plane: NDArray[Any], region: Region | None = None, *, checkpoint: Checkpoint = lambda: None
    ) -> InstantPrediction:
        """Apply the last classifier to any plane.

        Parameters
        ----------
        plane : ndarray of shape (Y, X)
            Normalised as those that were painted.
        region : Region or None
            Window of the plane; None for all of it.
        checkpoint : callable
            Called before each tile; raises to stop.

        Raises
        ------
        ImageError
            Not a plane that can be segmented.
        ParameterError
            No answer was given yet, or a region that is empty or not inside the plane.
        """
        if self._head is None:
            raise ParameterError("there is no classifier yet; paint at least two classes first")
        image = PaintedImage(plane, np.zeros(np.shape(plane), np.int32)).image
        with self._lock:
            return self._predict(self._store([image]), 0, region, checkpoint)

    def forget(self) -> None:
        """Drop the classifier and all features."""
        with self._lock:
            self._head, self._answered = None, ()
            self._cache.clear()

    def _answer(
        self, images: Sequence[PaintedImage], index: int, region: Region, checkpoint: Checkpoint
    ) -> InstantAnswer:
        clock = _Clock()
        store = self._store([each.image for each in images])
        head = store.learner.fit(images, lookup=store.look, previous=self._head, checkpoint=checkpoint)
        self._head = head
        in_fit = store.seconds
        clock.lap("fit")
        found = self._predict(store, index, region, checkpoint)
        clock.lap("predict")
        new = tuple(value for value in found.values if value not in self._answered)
        self._answered = found.values
        return InstantAnswer(
            index=index, region=region, labels=found.labels, probabilities=found.probabilities, values=found.values,
            new_values=new,
            seconds={
                "features": store.seconds,
                "fit": clock.laps["fit"] - in_fit,
                "predict": clock.laps["predict"] - (store.seconds - in_fit),
                "total": clock.total,
            },
            n_tiles_computed=store.n_computed,
        )  # fmt: skip

    def _predict(self, store: _Store, index: int, region: Region | None, checkpoint: Checkpoint) -> InstantPrediction:
        from napari_cellenhance.core.recipes.instant import predict

        assert self._head is not None
        return predict(
            self._head, store.shape(index), store.tiles(index), lambda tile: store.look(index, tile),
            region=region, checkpoint=checkpoint,
        )  # fmt: skip

    def _store(self, planes: Sequence[Plane]) -> _Store:
        if self._learner is None:
            self._learner = self._open()
        return _Store(self._learner, self._cache, planes)

    def _open(self) -> InstantLearner:
        from napari_cellenhance.core.recipes.instant import InstantFeatures, InstantLearner

        features = self._features
        if features is None:
            from napari_cellenhance.core.models.nunet import NUNet
            from napari_cellenhance.workflows.device_check import choose_checked_device
            from napari_cellenhance.zoo.manifest import find_model
            from napari_cellenhance.zoo.weights import load_model

            module = load_model(find_model(MODEL_ID))
            assert isinstance(module, NUNet)
            features = InstantFeatures(module, choose_checked_device(*self._asked))
        return InstantLearner(features, self._settings)


def confident_labels(
    answer: InstantAnswer, threshold: float = 0.9, *, painted: NDArray[np.integer[Any]] | None = None
) -> NDArray[np.int32]:
    """Pixels that the answer is sure of, as painted labels, to train a network on.

    Parameters
    ----------
    answer : InstantAnswer
    threshold : float
        Least probability, above 0 and up to 1.
    painted : ndarray of int, shape of the region, or None
        What was painted there by hand; it stays as it is.

    Returns
    -------
    ndarray of int32, shape (Y, X)
        Label values of the region; 0 where the answer is not sure.

    Raises
    ------
    ParameterError
        A threshold out of range, or paint of another shape.

    Notes
    -----
    A network trained on them learns the mistakes too. Show them to the user first.
    """
    if not 0 < threshold <= 1:
        raise ParameterError(f"the threshold is {threshold}; expected a probability above 0 and up to 1")
    if painted is not None and painted.shape != answer.labels.shape:
        raise ParameterError(f"the paint has shape {painted.shape}; expected that of the answer, {answer.labels.shape}")
    sure = np.where(answer.probabilities.max(axis=0) >= threshold, answer.labels, NOT_PAINTED)
    if painted is not None:
        sure = np.where(painted != NOT_PAINTED, painted, sure)
    return sure.astype(np.int32)


class _TileCache:
    """Features of tiles; those unused for longest go first when the memory is used up."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._tiles: OrderedDict[tuple[bytes, Region], TileFeatures] = OrderedDict()
        self.n_bytes = 0

    def get(self, key: tuple[bytes, Region]) -> TileFeatures | None:
        if key in self._tiles:
            self._tiles.move_to_end(key)
        return self._tiles.get(key)

    def put(self, key: tuple[bytes, Region], tile: TileFeatures) -> None:
        if tile.n_bytes > self._limit:
            return
        self._tiles[key] = tile
        self.n_bytes += tile.n_bytes
        while self.n_bytes > self._limit:
            _, oldest = self._tiles.popitem(last=False)
            self.n_bytes -= oldest.n_bytes

    def clear(self) -> None:
        self._tiles.clear()
        self.n_bytes = 0


class _Store:
    """The planes of one call and the features of their tiles, kept ones first."""

    def __init__(self, learner: InstantLearner, cache: _TileCache, planes: Sequence[Plane]) -> None:
        self.learner, self._cache, self._planes = learner, cache, planes
        self._keys = [_key(plane) for plane in planes]
        self.n_computed, self.seconds = 0, 0.0

    def shape(self, index: int) -> tuple[int, int]:
        height, width = self._planes[index].shape
        return height, width

    def tiles(self, index: int) -> list[Region]:
        return self.learner.features.tiles(self.shape(index))

    def touching(self, index: int, region: Region) -> list[Region]:
        return [
            tile
            for tile in self.tiles(index)
            if tile.y0 < region.y1 and region.y0 < tile.y1 and tile.x0 < region.x1 and region.x0 < tile.x1
        ]

    def look(self, index: int, tile: Region) -> TileFeatures:
        key = (self._keys[index], tile)
        found = self._cache.get(key)
        if found is None:
            start = time.perf_counter()
            found = self.learner.features.compute(self._planes[index], tile)
            self.n_computed += 1
            self.seconds += time.perf_counter() - start
            self._cache.put(key, found)
        return found


class _Clock:
    def __init__(self) -> None:
        self._start = self._last = time.perf_counter()
        self.laps: dict[str, float] = {}

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name], self._last = now - self._last, now

    @property
    def total(self) -> float:
        return time.perf_counter() - self._start


def _key(plane: Plane) -> bytes:
    """What tells an image from others: a digest of its pixels, some milliseconds for 4 million of them."""
    return hashlib.blake2b(np.ascontiguousarray(plane).data, digest_size=16, key=repr(plane.shape).encode()).digest()
