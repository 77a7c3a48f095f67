"""Noisy images, their denoiser, and one training with its scores: the work of the evaluation of VoidSeg."""

from __future__ import annotations

import hashlib
import json
import math
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.folds import nested_subsets
from napari_cellenhance.core.noise import gaussian
from napari_cellenhance.core.normalize import fit_normalizer
from napari_cellenhance.core.tiling import Region
from napari_cellenhance.workflows._evaluate_voidseg_tables import Cell
from napari_cellenhance.workflows._train_voidseg_setup import (
    as_instances,
    denoised,
    new_stardist,
    new_unet,
    search_threshold,
)

if TYPE_CHECKING:
    from napari_cellenhance.core.device import DeviceChoice
    from napari_cellenhance.core.models.denoiser import DenoisingNetwork
    from napari_cellenhance.core.three_classes import ObjectImage
    from napari_cellenhance.workflows.evaluate_voidseg import EvaluateVoidSegRequest

__all__ = [
    "METHODS", "Images", "Level", "identity_of", "n_validation", "open_level", "read_images", "restore", "shown_index",
    "train_and_score",
]  # fmt: skip

METHODS: Mapping[str, tuple[str, bool, bool]] = {
    "baseline": ("unet", False, False),
    "sequential": ("unet", True, False),
    "finetune": ("unet", False, True),
    "finetune-sequential": ("unet", True, True),
    "stardist": ("stardist", False, False),
    "stardist-sequential": ("stardist", True, False),
}
"""Name → network, whether it looks at denoised images, whether it starts from the denoiser."""

_VERSION = 1
"""Of the method; a change makes stored results void."""
_TOP = 255.0
_LEAST_OBJECT_PX = 20
_LEAST_VALIDATION = 4
_PERCENTILES = {"lo": 1.0, "hi": 99.8}
_DECIDING = (
    "patch_px", "split_seed", "normalization", "n_steps", "learning_rate", "schedule", "depth", "width", "crop_px",
    "batch_size", "validate_every", "patience",
)  # fmt: skip
_OF_DENOISER = ("split_seed", "denoiser_steps", "depth", "width")


@dataclass(frozen=True, slots=True)
class Images:
    """Images as acquired, over 255, with their objects.

    Parameters
    ----------
    train, test : list of (name, image, labels)
    patches : list of (int, Region)
        Places in training images that hold an object.
    sha256 : str
        Of all pixels and labels, and of where the patches are.
    """

    train: list[tuple[str, NDArray[np.float32], NDArray[np.int32]]]
    test: list[tuple[str, NDArray[np.float32], NDArray[np.int32]]]
    patches: list[tuple[int, Region]]
    sha256: str


@dataclass(slots=True)
class Level:
    """Images at one noise, and what a denoiser that learned from all of them makes of them.

    Parameters
    ----------
    noisy : tuple of two lists of planes
        To train and to test on.
    restored : same
        The denoiser's results; empty until a method needs it.
    denoiser : DenoisingNetwork or None
    """

    sigma: float
    noisy: tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]
    restored: tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]] = ((), ())  # type: ignore[assignment]
    denoiser: DenoisingNetwork | None = None


def read_images(request: EvaluateVoidSegRequest) -> Images:
    """Read the images, and cut the training images into patches; those without an object are left out.

    Raises
    ------
    ImageError
        No image with labelled objects to learn from, or none to test on.
    ParameterError
        Fewer patches than have to be labelled.
    """
    from napari_cellenhance.io.labelled import Selection, read_labelled

    largest = max(request.max_train, request.max_test) if request.max_train and request.max_test else 0
    selection = Selection(max_images=largest, seed=request.split_seed)
    found: dict[bool, list[tuple[str, NDArray[np.float32], NDArray[np.int32]]]] = {True: [], False: []}
    for one in read_labelled(request.data, data_root=request.data_root, selection=selection):
        if one.labels is not None and (one.labels > 0).any():
            is_test = one.source == request.test_source
            found[is_test].append((f"{one.source}/{one.name}", one.image, one.labels))
    train, test = found[False][: request.max_train or None], found[True][: request.max_test or None]
    if not train or not test:
        raise ImageError(
            f"there are {len(train)} labelled images to learn from and {len(test)} in the source "
            f"{request.test_source!r}; the list needs one source to learn from and one of that name"
        )
    side = request.patch_px
    patches = [
        (i, Region(y, y + side, x, x + side))
        for i, (_, image, labels) in enumerate(train)
        for y in range(0, image.shape[0] - side + 1, side)
        for x in range(0, image.shape[1] - side + 1, side)
        if (labels[y : y + side, x : x + side] > 0).sum() >= _LEAST_OBJECT_PX
    ]
    needed = max(n + n_validation(n) for n in request.n_labelled)
    if len(patches) < needed:
        raise ParameterError(
            f"{max(request.n_labelled)} labelled patches and those to validate are {needed}, but only {len(patches)} "
            f"of {side} px with objects could be cut; give more images, or ask for fewer labels"
        )
    digest = hashlib.sha256(str([(i, r.slices) for i, r in patches]).encode())
    for name, image, labels in [*train, *test]:
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(image).data)
        digest.update(np.ascontiguousarray(labels).data)
    return Images(train, test, patches, digest.hexdigest())


def n_validation(n_labelled: int) -> int:
    """Patches for validation beside so many to learn from: 15 of 100, at least 4.

    >>> n_validation(8), n_validation(85)
    (4, 15)
    """
    return max(_LEAST_VALIDATION, round(n_labelled * 15 / 85))


def open_level(images: Images, sigma: float, seed: int) -> Level:
    """Add noise to every image; its random numbers are decided by the seed, the noise and the name."""

    def noisy(part: Sequence[tuple[str, NDArray[np.float32], NDArray[np.int32]]]) -> list[NDArray[np.float32]]:
        planes = []
        for name, image, _ in part:
            rng = np.random.default_rng([seed, round(1000 * sigma), zlib.crc32(name.encode())])
            planes.append((gaussian(_TOP * image, sigma, rng) / np.float32(_TOP)).astype(np.float32))
        return planes

    return Level(sigma, (noisy(images.train), noisy(images.test)))


def denoiser_identity(
    request: EvaluateVoidSegRequest, images: Images, sigma: float, choice: DeviceChoice
) -> dict[str, Any]:
    """Everything that decides a denoiser, but for the kind of processor."""
    return {
        "version": _VERSION, "data": images.sha256, "sigma": sigma, "precision": choice.precision,
        **{name: getattr(request, name) for name in _OF_DENOISER},
    }  # fmt: skip


def restore(
    level: Level,
    images: Images,
    request: EvaluateVoidSegRequest,
    choice: DeviceChoice,
    *,
    on_step: Callable[[int], None] = lambda step: None,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> dict[str, Any] | None:
    """Give the level a denoiser, trained on all of its images or found on disk, and its results.

    Returns
    -------
    dict or None
        What is known about it; None after a cancel.
    """
    from napari_cellenhance.core.metrics import psnr

    identity = denoiser_identity(request, images, level.sigma, choice)
    name = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:20]
    path = Path(request.out) / "denoisers" / f"{name}.safetensors"
    found = _trained_denoiser(level, request, choice, path, on_step, is_cancelled)
    if found is None:
        return None
    level.denoiser, seconds = found
    level.restored = (
        denoised(level.noisy[0], level.denoiser, choice), denoised(level.noisy[1], level.denoiser, choice),
    )  # fmt: skip
    clean = [image for _, image, _ in images.test]
    return {
        "sigma": level.sigma, "file": path.name, "seconds": seconds,
        "psnr_noisy": float(np.mean([psnr(a, b, data_range=1.0) for a, b in zip(level.noisy[1], clean, strict=True)])),
        "psnr_denoised": float(
            np.mean([psnr(a, b, data_range=1.0) for a, b in zip(level.restored[1], clean, strict=True)])
        ),
    }  # fmt: skip


def _trained_denoiser(
    level: Level,
    request: EvaluateVoidSegRequest,
    choice: DeviceChoice,
    path: Path,
    on_step: Callable[[int], None],
    is_cancelled: Callable[[], bool],
) -> tuple[DenoisingNetwork, float] | None:
    import torch

    from napari_cellenhance.core.blind_spots import BlindSpots
    from napari_cellenhance.core.models.denoiser import DenoisingNetwork
    from napari_cellenhance.core.recipes.n2v import N2VRecipe, N2VTraining, NoisyImage
    from napari_cellenhance.core.training import FitSettings, fit
    from napari_cellenhance.workflows._evaluate_cells import made_folder
    from napari_cellenhance.zoo.weights import load_state, read_metadata, save_state

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(request.split_seed)
        module = DenoisingNetwork(depth=request.depth, width=request.width)
    if path.is_file():
        module.load_state_dict(load_state(path))
        return module.eval(), float(read_metadata(path).get("seconds", math.nan))
    module.to(choice.torch_device)
    recipe = N2VRecipe(
        module,
        [NoisyImage(plane[None]) for plane in [*level.noisy[0], *level.noisy[1]]],
        N2VTraining(spots=BlindSpots(percent=0.784, radius_px=5, replace_by="uniform")),
        seed=request.split_seed,
        use_bf16=choice.precision == "bfloat16",
    )
    settings = FitSettings(
        n_steps=request.denoiser_steps, learning_rate=1e-3, weight_decay=0.0, average=0.99,
        n_warmup=min(50, max(1, request.denoiser_steps // 10)),
        validate_every=max(1, request.denoiser_steps // 6), seed=request.split_seed,
    )  # fmt: skip
    fitted = fit(recipe, settings, on_step=lambda state, row: on_step(state.step), is_cancelled=is_cancelled)
    if fitted.stopped == "cancelled":
        return None
    made_folder(path.parent)
    save_state(path, module.state_dict(), metadata={"seconds": fitted.state.elapsed_s})
    return module.eval(), fitted.state.elapsed_s


def identity_of(request: EvaluateVoidSegRequest, images: Images, cell: Cell, choice: DeviceChoice) -> dict[str, Any]:
    """Everything that decides a result, but for the kind of processor."""
    _, is_sequential, is_tuned = METHODS[cell.method]
    own = {
        "version": _VERSION, "data": images.sha256, "precision": choice.precision, "sigma": cell.sigma,
        "n_labelled": cell.n_labelled, "method": cell.method, "seed": cell.seed,
        **{name: getattr(request, name) for name in _DECIDING},
    }  # fmt: skip
    if is_sequential or is_tuned:
        own["denoiser"] = denoiser_identity(request, images, cell.sigma, choice)
    return own


def train_and_score(
    request: EvaluateVoidSegRequest,
    images: Images,
    level: Level,
    cell: Cell,
    choice: DeviceChoice,
    *,
    on_step: Callable[[int], None] = lambda step: None,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]] | None:
    """Train on some patches, keep the best validation loss, choose the threshold on the validation, score the test.

    Returns
    -------
    tuple of two dicts, or None
        The scores: ``average_precision``: mean over the test images; ``seg``: mean over all their objects;
        ``threshold``, ``validation_ap``, ``best_step``, ``n_steps``, ``training_seconds``, ``seconds``. Arrays to show,
        of the test image with the most objects: ``seen`` by the network, ``labels`` found. None after a cancel.
    """
    from napari_cellenhance.core.instances import match_instances, overlaps, seg_terms
    from napari_cellenhance.core.training import FitSettings, fit

    started = time.monotonic()
    network_name, is_sequential, is_tuned = METHODS[cell.method]
    train_planes, test_planes = level.restored if is_sequential else level.noisy
    if network_name == "stardist" or request.normalization == "image":
        train_planes, test_planes = _between_percentiles(train_planes), _between_percentiles(test_planes)
    train, validation = _chosen(images, train_planes, cell)
    before, start = (level.denoiser if wanted else None for wanted in (is_sequential, is_tuned))
    network: Any
    recipe: Any
    shape = {"seed": cell.seed, "depth": request.depth, "width": request.width, "before": before}
    if network_name == "stardist":
        network, recipe = _stardist(request, shape, train, validation, choice)
    else:
        network, recipe = _unet(request, shape, start, train, validation, choice)
    settings = FitSettings(
        n_steps=request.n_steps, learning_rate=request.learning_rate, weight_decay=0.0, schedule=request.schedule,
        n_warmup=min(20, request.n_steps), validate_every=min(request.validate_every, request.n_steps),
        patience=request.patience, seed=cell.seed,
    )  # fmt: skip
    fitted = fit(recipe, settings, on_step=lambda state, row: on_step(state.step), is_cancelled=is_cancelled)
    if fitted.stopped == "cancelled":
        return None
    search = search_threshold(recipe, network, choice)
    find = _finder(network, search.threshold, choice)
    precisions, terms, example = [], [np.zeros(0)], {}
    for i, (plane, (_, _, labels)) in enumerate(zip(test_planes, images.test, strict=True)):
        found = find(plane)
        if i == shown_index(images):
            example = {"seen": plane.astype(np.float16), "labels": found.astype(np.uint16)}
        shared = overlaps(labels, found)
        precisions.append(match_instances(shared).average_precision)
        terms.append(seg_terms(shared))
    scores = {
        "average_precision": float(np.mean(precisions)),
        "seg": float(np.concatenate(terms).mean()),
        "threshold": search.threshold,
        "validation_ap": max(search.scores),
        "best_step": fitted.state.best_step,
        "n_steps": fitted.state.step,
        "training_seconds": fitted.state.elapsed_s,
        "seconds": time.monotonic() - started,
    }
    return scores, example


def shown_index(images: Images) -> int:
    """Which test image is drawn: the one with the most objects."""
    return int(np.argmax([len(np.unique(labels)) for _, _, labels in images.test]))


def _between_percentiles(planes: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    """Each plane between its own percentiles; nothing is cut off."""
    return [fit_normalizer("percentile", plane, **_PERCENTILES).normalize(plane) for plane in planes]


def _chosen(
    images: Images, planes: Sequence[NDArray[np.float32]], cell: Cell
) -> tuple[list[ObjectImage], list[ObjectImage]]:
    """Patches to learn from, nested for rising numbers, and patches to validate on, nested as well and others."""
    from napari_cellenhance.core.three_classes import ObjectImage

    n_all = len(images.patches)
    (train,) = nested_subsets(n_all, (cell.n_labelled,), seed=cell.seed)
    rest = [i for i in _order(n_all, cell.seed)[::-1] if i not in set(train)]
    validation = rest[: n_validation(cell.n_labelled)]

    def cut(i: int) -> ObjectImage:
        which, region = images.patches[i]
        name, _, labels = images.train[which]
        return ObjectImage.complete(
            planes[which][region.slices], labels[region.slices], f"{name} at {region.y0}, {region.x0}"
        )

    return [cut(i) for i in train], [cut(i) for i in validation]


def _order(n_all: int, seed: int) -> list[int]:
    """All patches in the order in which rising subsets take them up."""
    subsets = nested_subsets(n_all, range(1, n_all + 1), seed=seed)
    order, seen = [], set[int]()
    for subset in subsets:
        (new,) = set(subset) - seen
        order.append(new)
        seen.add(new)
    return order


def _unet(
    request: EvaluateVoidSegRequest,
    shape: dict[str, Any],
    start: DenoisingNetwork | None,
    train: list[ObjectImage],
    validation: list[ObjectImage],
    choice: DeviceChoice,
) -> tuple[Any, Any]:
    from napari_cellenhance.core.recipes.voidseg import VoidSegRecipe, VoidSegTraining

    network = new_unet(**shape, start=start).to(choice.torch_device)
    training = VoidSegTraining(crop_px=request.crop_px, batch_size=request.batch_size)
    return network, VoidSegRecipe(network, train, training, validation=validation, choice=choice, seed=shape["seed"])


def _stardist(
    request: EvaluateVoidSegRequest,
    shape: dict[str, Any],
    train: list[ObjectImage],
    validation: list[ObjectImage],
    choice: DeviceChoice,
) -> tuple[Any, Any]:
    from napari_cellenhance.core.recipes.stardist import StarDistRecipe, StarDistTraining

    network = new_stardist(**shape).to(choice.torch_device)
    training = StarDistTraining(crop_px=request.crop_px, batch_size=request.batch_size, intensity_fraction=0.0)
    recipe = StarDistRecipe(
        network.stardist, [as_instances(one) for one in train], training,
        validation=[as_instances(one) for one in validation], seed=shape["seed"],
        use_bf16=choice.precision == "bfloat16",
    )  # fmt: skip
    return network, recipe


def _finder(
    network: Any, threshold: float, choice: DeviceChoice
) -> Callable[[NDArray[np.float32]], NDArray[np.uint32]]:
    """Plane that was denoised already, where it has to be → numbered objects."""
    from napari_cellenhance.core.models.voidseg import VoidSegNetwork
    from napari_cellenhance.core.recipes.stardist_segmenter import StarDistSegmenter
    from napari_cellenhance.core.recipes.voidseg_segmenter import VoidSegmenter
    from napari_cellenhance.core.three_classes import objects_of

    if isinstance(network, VoidSegNetwork):
        segmenter = VoidSegmenter(network, choice)
        return lambda plane: objects_of(segmenter.probabilities(plane), threshold)
    stars = StarDistSegmenter(network.stardist, choice, threshold=threshold)
    return lambda plane: stars.segment(plane).labels
