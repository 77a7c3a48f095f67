"""A training in the worker: what goes in, and what comes out of the thread while it runs."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np

from napari_cellenhance.widgets._labels_picker import labels_array
from napari_cellenhance.widgets._train_goal import Goal, model_id_of
from napari_cellenhance.widgets._training_run import TrainingRun, ended_how, folder_of, threads_beside_window
from napari_cellenhance.workflows import train
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress
from napari_cellenhance.workflows.train import TrainLayer, TrainRequest, TrainResult
from napari_cellenhance.zoo.manifest import ModelCard

__all__ = ["TrainRun", "build_train_request", "ended_sentence", "tunable"]


def build_train_request(layers: tuple[TrainLayer, ...], goal: Goal, own_ids: set[str]) -> TrainRequest:
    """Turn the panel into a request; labels of a mask bank are copied.

    Parameters
    ----------
    own_ids : set of str
        Ids of the project's own models, which a training must not take.
    """
    model_id = model_id_of(goal.title, own_ids)
    return TrainRequest(
        data=layers,
        out=folder_of(model_id),
        perception=goal.perception,
        teach=goal.teach,
        masks=None if goal.masks is None else (np.array(labels_array(goal.masks)),),
        model_id=model_id,
        title=goal.title,
        init_from=goal.init_from,
        strength=goal.strength,
        n_steps=goal.n_steps,
        learning_rate=goal.learning_rate,
        validate_every=goal.validate_every,
        batch_size=goal.batch_size,
        crop_px=goal.crop_px,
        seed=goal.seed,
        n_threads=threads_beside_window(os.cpu_count() or 1),
    )


class TrainRun(TrainingRun[TrainRequest, None]):
    """The call that the worker makes."""

    def resumed(self) -> TrainRun:
        """The same training, to go on from its checkpoint."""
        return TrainRun(replace(self.request, resume=True), self._gone)

    def __call__(self, on_progress: OnProgress, is_cancelled: IsCancelled) -> TrainResult:
        """Train; called in the thread."""
        return train.run(
            self.request,
            on_progress=self.told(on_progress),
            is_cancelled=self._stop.is_set,
            is_discarded=self.is_discarded_by(is_cancelled),
            on_picture=self.news.add_picture,
        )


def ended_sentence(result: TrainResult, title: str) -> str:
    """Say how a training ended and what there is now."""
    if result.stopped == "discarded":
        return "Cancelled; no filter was added. “Resume” goes on from here."
    return f"{ended_how(result.stopped)}: “{title}” is in the list of filters (best at update {result.best_step})."


def tunable(cards: tuple[ModelCard, ...]) -> list[ModelCard]:
    """Models that a training can start from."""
    return [card for card in cards if card.architecture.get("name") == "nunet"]
