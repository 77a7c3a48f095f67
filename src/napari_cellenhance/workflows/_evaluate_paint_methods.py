"""Ways to learn from paint, each under a clock: networks that go on learning, and models that are ready at once."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import MissingExtraError
from napari_cellenhance.core.painted import NOT_PAINTED, PaintedImage
from napari_cellenhance.core.tiling import Region

if TYPE_CHECKING:
    from torch import Tensor

    from napari_cellenhance.core.device import DeviceChoice
    from napari_cellenhance.core.models.segmentation_baseline import SegmentationNetwork
    from napari_cellenhance.core.recipes.aep_segmenter import Segmentation

__all__ = ["METHODS", "TITLES", "Learner", "PaintTask", "Seen", "check_forest"]

Predict = Callable[[NDArray[np.float32]], NDArray[np.int32]]


@dataclass(frozen=True, slots=True, kw_only=True)
class PaintTask:
    """What is painted, and how networks learn from it.

    Parameters
    ----------
    painted : PaintedImage
    values : tuple of int
        Label values of the classes.
    seed : int
    crop_px, batch_size, learning_rate, dropout
        Of the networks.
    choice : DeviceChoice
    start : AEP or PlainSegmenter, optional
        Trained network that "aep-tuned" goes on from; not modified.
    """

    painted: PaintedImage
    values: tuple[int, ...]
    seed: int
    crop_px: int
    batch_size: int
    learning_rate: float
    dropout: float | None
    choice: DeviceChoice
    start: SegmentationNetwork | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """What a person sees at a time.

    Parameters
    ----------
    time_s : float
        Seconds of training that were granted.
    ready_s : float
        Seconds of training after which this was ready; NaN where nothing is ready yet.
    n_updates : int
        Of a network until then; 0 otherwise.
    predict : callable or None
        Plane in [0, 1] → label values; None where nothing is ready yet.
    """

    time_s: float
    ready_s: float
    n_updates: int
    predict: Predict | None


OnSeen = Callable[[Seen], None]
Learner = Callable[[PaintTask, Sequence[float], OnSeen, Callable[[], bool]], None]
"""Task, times (rising, in s), what to do at each (off the clock), whether to stop → nothing."""


class _Clock:
    """Seconds since it was made, less those that were spent on looking."""

    def __init__(self) -> None:
        self._started, self._paused = time.perf_counter(), 0.0

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._started - self._paused

    def off(self, action: Callable[[], None]) -> None:
        """Do something that does not count."""
        before = time.perf_counter()
        action()
        self._paused += time.perf_counter() - before


# --- networks -------------------------------------------------------------------------------


def _learn_network(
    module: SegmentationNetwork,
    task: PaintTask,
    times_s: Sequence[float],
    on_seen: OnSeen,
    is_cancelled: Callable[[], bool],
    *,
    is_trained: bool,
) -> None:
    """Train until the last time; at each time the weights of the last update that was done by then are seen.

    Before its first update there is something to see only of a network that was trained before.
    """
    from napari_cellenhance.core.recipes.aep import AEPRecipe, AEPTraining
    from napari_cellenhance.core.training import FitSettings, FitState, fit

    clock, pending = _Clock(), list(times_s)
    settings = AEPTraining(
        crop_px=task.crop_px, batch_size=task.batch_size, holdout_fraction=0.0, max_validation_windows=1
    )
    recipe = AEPRecipe(
        module,
        [task.painted],
        settings,
        values=task.values,
        seed=task.seed,
        use_bf16=task.choice.precision == "bfloat16",
    )
    last = _Weights(_copied(module), 0, 0.0)

    def seen(time_s: float) -> Seen:
        if not (last.n_updates or is_trained):
            return Seen(time_s, math.nan, 0, None)
        return Seen(time_s, last.ready_s, last.n_updates, _predictor(module, last.tensors, task))

    def look(state: FitState) -> None:
        nonlocal last
        now = clock.seconds
        while pending and now > pending[0]:
            on_seen(seen(pending.pop(0)))
        last = _Weights(_copied(module), state.step, now)

    endless = FitSettings(
        n_steps=10**9,
        validate_every=10**9,
        learning_rate=task.learning_rate,
        weight_decay=0.0,
        schedule="constant",
        n_warmup=1,
        keep="last",
        seed=task.seed,
    )
    fit(
        recipe,
        endless,
        on_step=lambda state, row: clock.off(lambda: look(state)),
        is_cancelled=lambda: not pending or is_cancelled(),
    )


@dataclass(frozen=True, slots=True)
class _Weights:
    tensors: dict[str, Tensor]
    n_updates: int
    ready_s: float


def _copied(module: SegmentationNetwork) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def _predictor(module: SegmentationNetwork, weights: Mapping[str, Tensor], task: PaintTask) -> Predict:
    from napari_cellenhance.core.recipes.aep_segmenter import AEPSegmenter

    twin = copy.deepcopy(module)
    twin.load_state_dict(weights)
    segmenter = AEPSegmenter(twin, task.values, task.choice)
    return lambda plane: _as_labels(segmenter.segment(plane))


def _as_labels(found: Segmentation) -> NDArray[np.int32]:
    return found.labels


def _learn_new(variant: str) -> Learner:
    """A network from random weights."""

    def learn(task: PaintTask, times_s: Sequence[float], on_seen: OnSeen, is_cancelled: Callable[[], bool]) -> None:
        from napari_cellenhance.workflows._evaluate_aep_train import build_variant
        from napari_cellenhance.workflows.train_aep import dropout_of

        module = build_variant(variant, len(task.values), task.seed, dropout_of(task.dropout, None))
        module = module.to(task.choice.torch_device)
        _learn_network(module, task, times_s, on_seen, is_cancelled, is_trained=False)

    return learn


def _learn_tuned(task: PaintTask, times_s: Sequence[float], on_seen: OnSeen, is_cancelled: Callable[[], bool]) -> None:
    """AEP that goes on from a trained network; layers whose size follows the classes begin anew."""
    from napari_cellenhance.core.models.aep import warm_start
    from napari_cellenhance.core.models.build import build
    from napari_cellenhance.workflows._evaluate_aep_train import build_variant
    from napari_cellenhance.workflows.train_aep import dropout_of

    assert task.start is not None
    dropout = dropout_of(task.dropout, task.start)
    is_fitting = task.start.n_classes == len(task.values)
    if is_fitting:
        module = cast("SegmentationNetwork", build(task.start.architecture | {"dropout": dropout}))
        module.load_state_dict(task.start.state_dict())
    else:
        module = build_variant("aep-auto", len(task.values), task.seed, dropout)
        warm_start(module, task.start.state_dict())
    module = module.to(task.choice.torch_device)
    _learn_network(module, task, times_s, on_seen, is_cancelled, is_trained=is_fitting)


# --- ready at once --------------------------------------------------------------------------


def _learn_once(open_: Callable[[PaintTask], Callable[[], Predict]]) -> Learner:
    """A model that is made in one go: there is nothing to see before, and nothing gets better after.

    What ``open_`` does, such as reading weights, is off the clock, as it is for networks; what it returns learns.
    """

    def learn(task: PaintTask, times_s: Sequence[float], on_seen: OnSeen, is_cancelled: Callable[[], bool]) -> None:
        make = open_(task)
        clock = _Clock()
        predict = make()
        ready_s = clock.seconds
        for time_s in times_s:
            is_ready = time_s >= ready_s
            on_seen(Seen(time_s, ready_s if is_ready else math.nan, 0, predict if is_ready else None))

    return learn


def _open_instant(task: PaintTask) -> Callable[[], Predict]:
    """Instant segmentation: the time is that of the features where there is paint, and of the fit."""
    from napari_cellenhance.workflows.instant import InstantSession

    session = InstantSession(task.choice.device, task.choice.precision)
    corner = Region(0, 1, 0, 1)
    session.prepare(task.painted.image[::-1], corner)  # reads the weights; another image, so nothing of it is at hand
    session.forget()

    def make() -> Predict:
        session.update([task.painted], (0, corner))
        return lambda plane: session.predict(plane).labels

    return make


def check_forest() -> None:
    """Refuse with ``MissingExtraError`` where there is no scikit-learn."""
    try:
        import sklearn.ensemble  # noqa: F401 - only whether it is there
    except ImportError as error:
        raise MissingExtraError(
            'the random forest needs scikit-learn; run pip install "napari-cellenhance[evaluate]", '
            "or leave the method 'forest' out"
        ) from error


def _open_forest(task: PaintTask) -> Callable[[], Predict]:
    """Random forest on hand-made features, in the way of ilastik.

    Notes
    -----
    Grey value, edges and both eigenvalues of the Hessian at the scales 0.5, 1, 2, … 16 px of
    ``skimage.feature.multiscale_basic_features``; 100 trees of scikit-learn with its own settings, on one core.
    """
    check_forest()
    from sklearn.ensemble import RandomForestClassifier

    forest: Any = RandomForestClassifier(n_estimators=100, random_state=task.seed)
    is_painted = task.painted.labels != NOT_PAINTED

    def predict(plane: NDArray[np.float32]) -> NDArray[np.int32]:
        features = _features(plane)
        found = forest.predict(features.reshape(-1, features.shape[-1]))
        return np.asarray(found, np.int32).reshape(plane.shape)

    def make() -> Predict:
        forest.fit(_features(task.painted.image)[is_painted], task.painted.labels[is_painted])
        return predict

    return make


def _features(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    from skimage.feature import multiscale_basic_features

    features = multiscale_basic_features(plane, sigma_min=0.5, sigma_max=16)  # type: ignore[no-untyped-call]
    return np.asarray(features, np.float32)


METHODS: Mapping[str, Learner] = {
    "instant": _learn_once(_open_instant),
    "aep-tuned": _learn_tuned,
    "aep": _learn_new("aep-auto"),
    "unet": _learn_new("unet"),
    "forest": _learn_once(_open_forest),
}

TITLES: Mapping[str, str] = {
    "instant": "instant",
    "aep-tuned": "AEP + AWEL, fine-tuned",
    "aep": "AEP + AWEL, from scratch",
    "unet": "U-Net",
    "forest": "random forest (as in ilastik)",
}
