"""A training of a denoiser in the worker: what goes in, what it looks at, and what comes out."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from napari_cellenhance.core.errors import CellEnhanceError
from napari_cellenhance.core.recipes.protocol import Region
from napari_cellenhance.widgets._denoise_now import Chosen
from napari_cellenhance.widgets._denoise_settings import DenoiseGoal
from napari_cellenhance.widgets._guard import error_sentence
from napari_cellenhance.widgets._preview_request import cap_region
from napari_cellenhance.widgets._settings import PluginSettings
from napari_cellenhance.widgets._teach_place import Window
from napari_cellenhance.widgets._train_goal import model_id_of
from napari_cellenhance.widgets._training_run import TrainingRun, ended_how, folder_of, threads_beside_window
from napari_cellenhance.workflows import denoise_layers, train_n2v
from napari_cellenhance.workflows.denoise_layers import DenoisedLayer
from napari_cellenhance.workflows.noisy_images import NoisyLayer, portion_of, window_at
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress
from napari_cellenhance.workflows.train_n2v import Glimpse, N2VRequest, N2VResult, ViewedWindow, remembered
from napari_cellenhance.zoo.manifest import list_models

__all__ = ["DenoiseRun", "Seen", "Trained", "build_n2v_request", "ended_sentence", "taken_ids"]

_FIELDS = (
    "init_from", "title", "n_steps", "time_limit_s", "variant", "n_dims", "is_joint", "structure", "reach_px",
    "radius_px", "patch_px", "learning_rate", "seed",
)  # fmt: skip
_EVERY_SHARE, _LARGEST_EVERY = 8, 100
_GLIMPSE_PX = 1 << 18
_SLAB_PLANES = 4
_LATE = 1.25
"""Share of the time limit after which a training ends, however many of its updates are done."""
_QUICK_S, _QUICK_PATCHES = 60.0, 96
"""Up to this time limit fewer patches are checked, lest half of the time goes into that."""


def taken_ids() -> set[str]:
    """Ids that a training must not take: models of the project, and models of the user that do not denoise."""
    return {card.id for card in list_models() if card.file.url is not None or card.recipe != "n2v"}


def build_n2v_request(layers: Sequence[NoisyLayer], goal: DenoiseGoal, device: str = "auto") -> N2VRequest:
    """Turn the panel into a request."""
    model_id = model_id_of(goal.title, taken_ids())
    is_quick = 0 < goal.time_limit_s <= _QUICK_S
    return N2VRequest(
        data=tuple(layers),
        out=folder_of(model_id),
        model_id=model_id,
        validate_every=max(1, min(_LARGEST_EVERY, goal.n_steps // _EVERY_SHARE)),
        device=device,
        recipe_options={"n_validation": _QUICK_PATCHES} if is_quick else {},
        n_threads=threads_beside_window(os.cpu_count() or 1),
        **{name: getattr(goal, name) for name in _FIELDS},
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Seen:
    """What is on screen, as the network makes it now: shape (Y, X), and its contrast limits."""

    image: Any
    limits: tuple[float, float]
    window: Window
    region: Region


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trained:
    """What the worker brings back: the training, and the trained images denoised; or why they are not."""

    result: N2VResult
    denoised: list[DenoisedLayer]
    problem: str = ""


class DenoiseRun(TrainingRun[N2VRequest, Seen]):
    """The call that the worker makes; at the end the trained images are denoised with the new model.

    Parameters
    ----------
    request : N2VRequest
    gone : Event
    chosen : Chosen
        The trained images, as they were.
    settings : PluginSettings
    """

    def __init__(self, request: N2VRequest, gone: threading.Event, chosen: Chosen, settings: PluginSettings) -> None:
        super().__init__(request, gone)
        self.chosen = chosen
        self.is_late = self.is_denoising = False
        self._begun = 0.0
        self._settings = settings

    def resumed(self) -> DenoiseRun:
        """The same training, to go on from its checkpoint.

        Raises
        ------
        ParameterError
            Its settings cannot be read.
        """
        return DenoiseRun(remembered(self.request), self._gone, self.chosen, self._settings)

    def __call__(self, on_progress: OnProgress, is_cancelled: IsCancelled) -> Trained:
        """Train, then denoise; called in the thread."""
        is_discarded = self.is_discarded_by(is_cancelled)
        self._begun = time.monotonic()
        result = train_n2v.run(
            self.request, on_progress=self.told(on_progress), is_cancelled=self._is_ended,
            is_discarded=is_discarded, look=self._look, on_glimpse=self._keep,
        )  # fmt: skip
        if result.card is None:
            return Trained(result=result, denoised=[])
        self._stop.clear()  # from here on it skips the rest
        self.is_denoising = True
        try:
            requests = self.chosen.requests(result.model_id, self._settings)
            found = denoise_layers.denoise_layers(
                requests, on_progress=on_progress, is_cancelled=lambda: self.is_stopping or is_discarded()
            )
        except CellEnhanceError as error:  # the model is there all the same
            return Trained(result=result, denoised=[], problem=error_sentence(error))
        return Trained(result=result, denoised=found)

    def _is_ended(self) -> bool:
        """Whether somebody pressed Stop, or a computer that became busy meanwhile takes far longer than was said."""
        limit_s = self.request.time_limit_s if self.request.n_steps == 0 else 0.0
        self.is_late = bool(limit_s) and time.monotonic() - self._begun > _LATE * limit_s
        return self.is_stopping or self.is_late

    def _look(self) -> ViewedWindow | None:
        """Read what is on screen, all channels; called in the thread."""
        window: Window | None = self.looked_at()
        if window is None:
            return None
        try:
            layer = NoisyLayer(
                name=window.view.name, image=window.view.levels[0], axes=window.axes, channels=window.channels
            )
            n_planes = 1 if self.request.n_dims == 2 else 2 * _SLAB_PLANES + 1
            region = cap_region(window.region, _GLIMPSE_PX // (portion_of(layer).n_channels * n_planes))
            t, z = window.plane
            where = dict(zip(window.axes, window.view.index, strict=False))
            channel = where.get("C", 0) if window.channels == "all" else 0
            if self.request.n_dims == 2:
                plane = window_at(layer, t=t, planes=z)
                return ViewedWindow(plane=plane, region=region, key=(window, (channel,)))
            first = max(0, z - _SLAB_PLANES)
            slab = window_at(layer, t=t, planes=slice(first, z + _SLAB_PLANES + 1))
            return ViewedWindow(plane=slab, region=region, key=(window, (channel, z - first)))
        except CellEnhanceError:
            return None  # nothing of the image is on screen, or its axes are being corrected

    def _keep(self, glimpse: Glimpse) -> None:
        window, place = glimpse.window.key
        image = glimpse.shown[place]
        limits = denoise_layers.shown_range(image)
        self.keep_seen(Seen(image=image, limits=limits, window=window, region=glimpse.window.region))


def ended_sentence(result: N2VResult, title: str, *, is_late: bool = False) -> str:
    """Say how a training ended and what there is now."""
    if result.stopped == "discarded":
        return "Discarded; no model was added or changed. “Resume” goes on from here."
    how = "The time is up" if is_late and result.stopped == "cancelled" else ended_how(result.stopped)
    return f"{how}: “{title}” is ready (best at update {result.best_step}), here and in “Enhance cells”."
