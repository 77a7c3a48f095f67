"""A training of a denoiser in the worker: what goes in, and what comes out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from napari_cellenhance.widgets._denoise_now import request_for
from napari_cellenhance.widgets._denoise_settings import DenoiseGoal
from napari_cellenhance.widgets._learning_run import LearningRun, updates_between_checks
from napari_cellenhance.widgets._train_goal import model_id_of
from napari_cellenhance.widgets._training_run import folder_of, threads_beside_window
from napari_cellenhance.workflows import denoise_layers, train_n2v
from napari_cellenhance.workflows.denoise_layers import DenoisedLayer
from napari_cellenhance.workflows.noisy_images import NoisyLayer
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress
from napari_cellenhance.workflows.train_n2v import N2VRequest, remembered
from napari_cellenhance.zoo.manifest import list_models

__all__ = ["DenoiseRun", "build_n2v_request", "taken_ids"]

_FIELDS = (
    "init_from", "title", "n_steps", "time_limit_s", "variant", "n_dims", "is_joint", "structure", "reach_px",
    "radius_px", "patch_px", "learning_rate", "seed",
)  # fmt: skip
_LARGEST_EVERY = 100
_QUICK_S, _QUICK_PATCHES = 60.0, 96
"""Up to this time limit fewer patches are checked, lest half of the time goes into that."""


def taken_ids(recipe: str = "n2v") -> set[str]:
    """Ids that a training must not take: models of the project, and models of the user of other recipes."""
    return {card.id for card in list_models() if card.file.url is not None or card.recipe != recipe}


def build_n2v_request(layers: Sequence[NoisyLayer], goal: DenoiseGoal, device: str = "auto") -> N2VRequest:
    """Turn the panel into a request."""
    model_id = model_id_of(goal.title, taken_ids())
    is_quick = 0 < goal.time_limit_s <= _QUICK_S
    return N2VRequest(
        data=tuple(layers),
        out=folder_of(model_id),
        model_id=model_id,
        validate_every=updates_between_checks(goal.n_steps, _LARGEST_EVERY),
        device=device,
        recipe_options={"n_validation": _QUICK_PATCHES} if is_quick else {},
        n_threads=threads_beside_window(os.cpu_count() or 1),
        **{name: getattr(goal, name) for name in _FIELDS},
    )


class DenoiseRun(LearningRun[N2VRequest]):
    """The call that the worker makes; at the end the trained images are denoised with the new model."""

    def resumed(self) -> DenoiseRun:
        """The same training, to go on from its checkpoint.

        Raises
        ------
        ParameterError
            Its settings cannot be read.
        """
        return DenoiseRun(remembered(self.request), self._gone, self.chosen, self.settings)

    def train(self, **callbacks: Any) -> train_n2v.N2VResult:
        """Train."""
        return train_n2v.run(self.request, **callbacks)

    def use(self, model_id: str, on_progress: OnProgress, is_cancelled: IsCancelled) -> list[DenoisedLayer]:
        """Denoise."""
        requests = [request_for(*part, model_id, self.settings) for part in self.chosen.parts()]
        return denoise_layers.denoise_layers(requests, on_progress=on_progress, is_cancelled=is_cancelled)
