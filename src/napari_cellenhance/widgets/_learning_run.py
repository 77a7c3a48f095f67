"""A training on images in the worker: it shows what is on screen, and at the end puts the new model to use."""

from __future__ import annotations

import threading
import time
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from numpy.typing import NDArray

from napari_cellenhance.core.errors import CellEnhanceError
from napari_cellenhance.core.recipes.protocol import Region
from napari_cellenhance.widgets._guard import error_sentence
from napari_cellenhance.widgets._layers import LayerView
from napari_cellenhance.widgets._preview_request import cap_region
from napari_cellenhance.widgets._settings import PluginSettings
from napari_cellenhance.widgets._teach_place import Window
from napari_cellenhance.widgets._training_run import TrainingRun, ended_how
from napari_cellenhance.workflows.denoise_layers import shown_range
from napari_cellenhance.workflows.noisy_images import NoisyLayer, portion_of, window_at
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress
from napari_cellenhance.workflows.train_progress import TrainResult

__all__ = ["Chosen", "LearningRun", "Seen", "Trained", "ended_sentence", "updates_between_checks"]

Request = TypeVar("Request", bound=Any)
_EVERY_SHARE = 8
_GLIMPSE_PX = 1 << 18
_SLAB_PLANES = 4
_LATE = 1.25
"""Share of the time limit after which a training ends, however many of its updates are done."""


def updates_between_checks(n_steps: int, most: int) -> int:
    """Updates between two validations: an eighth of all, or fewer.

    >>> updates_between_checks(20, 100), updates_between_checks(5000, 100)
    (2, 100)
    """
    return max(1, min(most, n_steps // _EVERY_SHARE))


class Chosen:
    """Images that are chosen, frozen, as a run needs them.

    Parameters
    ----------
    forms : sequence of DenoiseLayerForm
    """

    def __init__(self, forms: Sequence[Any]) -> None:
        self.layers = [form.layer for form in forms]
        self.views: list[LayerView] = [form.view() for form in forms]
        self.axes: list[str] = [form.image.axes_text for form in forms]
        self.channels: list[Any] = [form.channels() for form in forms]

    def parts(self) -> list[tuple[LayerView, str, Any]]:
        """View, axes and channels of each image."""
        return list(zip(self.views, self.axes, self.channels, strict=True))

    def still_there(self, viewer: Any, found: Sequence[Any]) -> tuple[list[tuple[Any, int]], list[str]]:
        """Results of images that are still in the viewer, each with its number; and names of the others."""
        kept, gone = [], []
        for i, (one, layer) in enumerate(zip(found, self.layers, strict=False)):
            if layer in viewer.layers:
                kept.append((one, i))
            else:
                gone.append(self.views[i].name)
        return kept, gone


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Seen:
    """What is on screen, as the network makes it now: shape (Y, X), and its contrast limits."""

    image: Any
    limits: tuple[float, float]
    window: Window
    region: Region


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trained:
    """What the worker brings back: the training, and what the model made of the images; or why it did not."""

    result: TrainResult
    found: list[Any] = field(default_factory=list)
    problem: str = ""


class LearningRun(TrainingRun[Request, Seen]):
    """The call that the worker makes; at the end the chosen images are worked on with the new model.

    Parameters
    ----------
    request : LoopRequest
    gone : Event
    chosen : Chosen
        Images to use the model on, as they were.
    settings : PluginSettings
    """

    def __init__(self, request: Request, gone: threading.Event, chosen: Chosen, settings: PluginSettings) -> None:
        super().__init__(request, gone)
        self.chosen = chosen
        self.is_late = self.is_using = False
        self.settings = settings
        self._begun = 0.0

    @property
    def n_dims(self) -> int:
        """2 where the network sees planes, 3 for volumes."""
        return int(self.request.n_dims)

    @abstractmethod
    def train(self, **callbacks: Any) -> Any:
        """Train with these callbacks of the workflow."""

    @abstractmethod
    def use(self, model_id: str, on_progress: OnProgress, is_cancelled: IsCancelled) -> list[Any]:
        """Work on the chosen images with the new model."""

    def __call__(self, on_progress: OnProgress, is_cancelled: IsCancelled) -> Trained:
        """Train, then use what was learned; called in the thread."""
        is_discarded = self.is_discarded_by(is_cancelled)
        self._begun = time.monotonic()
        result = self.train(
            on_progress=self.told(on_progress), is_cancelled=self._is_ended, is_discarded=is_discarded,
            look=self._look, on_glimpse=self._keep,
        )  # fmt: skip
        if result.card is None:
            return Trained(result=result)
        self._stop.clear()  # from here on it skips the rest
        self.is_using = True
        try:
            found = self.use(result.model_id, on_progress, lambda: self.is_stopping or is_discarded())
        except CellEnhanceError as error:  # the model is there all the same
            return Trained(result=result, problem=error_sentence(error))
        return Trained(result=result, found=found)

    def _is_ended(self) -> bool:
        """Whether somebody pressed Stop, or a computer that became busy meanwhile takes far longer than was said."""
        limit_s = self.request.time_limit_s if self.request.n_steps == 0 else 0.0
        self.is_late = bool(limit_s) and time.monotonic() - self._begun > _LATE * limit_s
        return self.is_stopping or self.is_late

    def _look(self) -> Any:
        """Read what is on screen, all channels; called in the thread."""
        from napari_cellenhance.workflows._train_loop import ViewedWindow

        window: Window | None = self.looked_at()
        if window is None:
            return None
        try:
            layer = NoisyLayer(
                name=window.view.name, image=window.view.levels[0], axes=window.axes, channels=window.channels
            )
            n_planes = 1 if self.n_dims == 2 else 2 * _SLAB_PLANES + 1
            region = cap_region(window.region, _GLIMPSE_PX // (portion_of(layer).n_channels * n_planes))
            t, z = window.plane
            where = dict(zip(window.axes, window.view.index, strict=False))
            channel = where.get("C", 0) if window.channels == "all" else 0
            if self.n_dims == 2:
                plane = window_at(layer, t=t, planes=z)
                return ViewedWindow(plane=plane, region=region, key=(window, (channel,)))
            first = max(0, z - _SLAB_PLANES)
            slab = window_at(layer, t=t, planes=slice(first, z + _SLAB_PLANES + 1))
            return ViewedWindow(plane=slab, region=region, key=(window, (channel, z - first)))
        except CellEnhanceError:
            return None  # nothing of the image is on screen, or its axes are being corrected

    def _keep(self, glimpse: Any) -> None:
        window, place = glimpse.window.key
        image = glimpse.shown[place]
        limits = self.limits_of(image, window)
        self.keep_seen(Seen(image=image, limits=limits, window=window, region=glimpse.window.region))

    def limits_of(self, image: NDArray[Any], _window: Window) -> tuple[float, float]:
        """Grey values shown as black and white in the picture of the moment."""
        return shown_range(image)


def ended_sentence(result: TrainResult, title: str, *, is_late: bool = False) -> str:
    """Say how a training ended and what there is now."""
    if result.stopped == "discarded":
        return "Discarded; no model was added or changed. “Resume” goes on from here."
    how = "The time is up" if is_late and result.stopped == "cancelled" else ended_how(result.stopped)
    return f"{how}: “{title}” is ready (best at update {result.best_step}), here and in “Enhance cells”."
