"""Is this result true? A result, or a model, checked on one plane of an image by everything that can be told of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.doubt import GUARD_SHARE
from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.normalize import sanitize
from napari_cellenhance.core.object_support import check_support
from napari_cellenhance.core.residuals import Fit, check_residual, fit_result
from napari_cellenhance.workflows._batch_steps import Machine
from napari_cellenhance.workflows._judgements import judge_objects, judge_residual, judge_uncertainty
from napari_cellenhance.workflows._measured import MeasuredImage, OpenedLayer, check_alike, open_layer
from napari_cellenhance.workflows._provenance import method_of
from napari_cellenhance.workflows._rerun import Rerun, agreement_of
from napari_cellenhance.workflows.batch_recipe import Step, from_record, kind_of, step_for_model, title_of
from napari_cellenhance.workflows.input_guards import Finding, InputWatch, Level
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, never_cancelled, no_progress
from napari_cellenhance.workflows.requests import NOT_QUANTITATIVE
from napari_cellenhance.zoo.manifest import list_models

__all__ = ["CheckRequest", "CheckResult", "GuardMap", "check", "to_text", "worst"]

WINDOW_PX = 1024
"""Side of the middle of a plane that is checked: larger ones take long."""
WORDS: dict[Level, str] = {"fine": "Fine", "look": "Look", "doubt": "Doubt"}
_KEEPS_GREY = ("Noise2Void", "CARE")
_STRAIGHT = 0.8
"""Share of the variance around a straight line that a rising curve must leave for the line to be good enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckRequest:
    """What to check.

    Parameters
    ----------
    image : MeasuredImage
        Before; of a stack the plane ``at``, or the middle one.
    result : MeasuredImage or None
        After, of the same shape; None: the model makes it.
    record : mapping or None
        How the result was made.
    model_id : str
        Model or filter that made it, where no record tells.
    runs_model : bool
        Run the model again on turned copies and on halves of the image: twelve runs on the middle 1024 px.
    gain, offset : float or None
        Of the camera: grey values per photon, and grey value without light. With a gain the photons are dealt out.
    share : float
        Of the contrast, by which pixels may differ.
    """

    image: MeasuredImage
    result: MeasuredImage | None = None
    record: Mapping[str, Any] | None = None
    model_id: str = ""
    runs_model: bool = True
    gain: float | None = None
    offset: float = 0.0
    share: float = GUARD_SHARE
    machine: Machine = Machine()  # noqa: RUF009 - it is frozen

    def __post_init__(self) -> None:
        if self.result is None and not self.model_id:
            raise ParameterError("there is nothing to check; name a result, or a model that makes one")
        if not 0 < self.share < 1:
            raise ParameterError(f"the share of the contrast is {self.share}; expected more than 0 and less than 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardMap:
    """A picture of what a guard found, of the shape of the plane; outside of the window that was checked NaN, or 0.

    Parameters
    ----------
    name : str
    pixels : ndarray of shape (Y, X)
        float32, or uint8 for places.
    is_labels : bool
    limit : float
        Of an image: white; maps with negative values are shown from −limit.
    meaning : str
        Of values or labels, for a person.
    """

    name: str
    pixels: NDArray[Any]
    is_labels: bool
    limit: float
    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """What all guards say.

    Parameters
    ----------
    findings : tuple of Finding
    maps : tuple of GuardMap
    plane : (t, c, z)
    record : dict
        JSON-ready.
    is_complete : bool
        False after a cancel: what was found until then.
    """

    findings: tuple[Finding, ...]
    maps: tuple[GuardMap, ...]
    plane: tuple[int, int, int]
    record: dict[str, Any] = field(default_factory=dict)
    is_complete: bool = True


def worst(findings: tuple[Finding, ...]) -> Level:
    """The gravest level of all."""
    levels = [one.level for one in findings]
    return "doubt" if "doubt" in levels else "look" if "look" in levels else "fine"


def to_text(result: CheckResult) -> str:
    """One line for each guard, the word first; and what must always be known."""
    lines = [f"{WORDS[one.level]:<5}  {one.guard}: {one.sentence}" for one in result.findings]
    return "\n".join([*lines, NOT_QUANTITATIVE])


def check(
    request: CheckRequest, *, on_progress: OnProgress = no_progress, is_cancelled: IsCancelled = never_cancelled
) -> CheckResult:
    """Check a result, or what a model makes of an image.

    Raises
    ------
    AxesError, ImageError
        Images that do not fit each other, are flat, or have sides below 64 px.
    ParameterError
        Nothing to check; a result that shows classes or labels.
    ModelNotFoundError, DownloadError, ChecksumError, DeviceError
        The model cannot be had.
    """
    step = _step_of(request)
    planes = _Planes.of(request)
    rerun = None
    if step is not None and (request.runs_model or planes.result is None):
        rerun = Rerun(step, request.machine, planes.stored, on_progress, is_cancelled)
    result = planes.result
    beside: dict[str, NDArray[Any]] = {}
    if result is None:
        assert rerun is not None
        made, beside = rerun.make(planes.stored)
        result = made.astype(np.float64)
    findings, maps = _of_input(planes, step), list[GuardMap]()
    if step is None or kind_of(step) != "separate":
        more, pictures = _of_pair(planes, np.asarray(result), request, step)
        findings, maps = findings + more, maps + pictures
    is_complete = True
    if rerun is not None and request.runs_model:
        found = agreement_of(rerun, request.share, request.gain, request.offset)
        is_complete = found.is_complete
        findings, beside = findings + list(found.findings), found.beside | beside
        maps += [_map(*one) for one in found.maps]
    if "uncertainty" in beside:
        findings.append(judge_uncertainty(beside["uncertainty"], np.asarray(result), request.share))
    placed = tuple(replace(one, pixels=planes.place(one.pixels)) for one in maps)
    return CheckResult(
        findings=tuple(findings), maps=placed, plane=planes.index, is_complete=is_complete,
        record={
            "step": "check", "image": request.image.name,
            "result": None if request.result is None else request.result.name,
            "model": None if step is None else title_of(step), "plane": list(planes.index),
            "window": [[part.start, part.stop] for part in planes.window], "share": request.share,
            "level": worst(tuple(findings)), "findings": [one.to_dict() for one in findings],
            "statement": NOT_QUANTITATIVE,
        },
    )  # fmt: skip


def _map(name: str, pixels: NDArray[Any], is_labels: bool, limit: float, meaning: str) -> GuardMap:
    return GuardMap(name=name, pixels=pixels, is_labels=is_labels, limit=limit, meaning=meaning)


def _step_of(request: CheckRequest) -> Step | None:
    """The last step that made the result, for one plane; None where nobody knows."""
    if request.model_id:
        step = step_for_model(request.model_id)
    elif request.record is not None and request.record.get("step") in ("enhance", "denoise", "restore", "separate"):
        step = from_record(request.record).steps[-1]
    elif request.record is not None and request.record.get("step") == "segment":
        step = None
    else:
        return None
    if step is None or kind_of(step) == "segment":
        raise ParameterError("classes and labels have no grey values to check; choose an image that a filter made")
    return replace(step, axes="", channels="all")


# --- pixels -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Planes:
    """The plane that is checked, in a window, before and after."""

    stored: NDArray[Any]
    """As the model gets it."""
    image: NDArray[np.float64]
    """Objects bright."""
    result: NDArray[np.float64] | None
    window: tuple[slice, slice]
    shape: tuple[int, int]
    index: tuple[int, int, int]
    objects_are_dark: bool

    @classmethod
    def of(cls, request: CheckRequest) -> _Planes:
        before = open_layer(request.image)
        number = len(before.planes) // 2
        index = before.planes[number]
        shape = before.plane_shape
        window = _middle(shape)
        is_dark = bool((request.record or {}).get("objects_are_dark")) or request.image.objects_are_dark
        stored = sanitize(before.stored(number)[window])[0]
        image = np.asarray(stored, np.float64)
        if image.min() == image.max():
            raise ImageError(f"“{request.image.name}” has one single grey value here; there is nothing to check")
        after = None if request.result is None else _after(before, request.result, number)[window]
        return cls(
            stored=stored, image=image.max() - image if is_dark else image,
            result=None if after is None else np.asarray(sanitize(after)[0], np.float64), window=window, shape=shape,
            index=index, objects_are_dark=is_dark,
        )  # fmt: skip

    def place(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """A map of the window on the whole plane."""
        if pixels.shape == self.shape:
            return pixels
        is_whole = pixels.dtype.kind in "ui"
        whole = np.full(self.shape, 0 if is_whole else np.nan, pixels.dtype)
        whole[self.window] = pixels
        return whole


def _middle(shape: tuple[int, int]) -> tuple[slice, slice]:
    starts = [max(0, (n - WINDOW_PX) // 2) for n in shape]
    y, x = (slice(start, min(n, start + WINDOW_PX)) for start, n in zip(starts, shape, strict=True))
    return y, x


def _after(before: OpenedLayer, result: MeasuredImage, number: int) -> NDArray[Any]:
    after = open_layer(result)
    check_alike(before, [after])
    return after.stored(number)


# --- guards -----------------------------------------------------------------------------------


def _of_input(planes: _Planes, step: Step | None) -> list[Finding]:
    if step is None:
        return []
    card = next((each for each in list_models() if each.id == title_of(step)), None)
    if card is None:
        return []
    watch = InputWatch(card, objects_are_dark=planes.objects_are_dark)
    watch.see(planes.stored)
    found = list(watch.findings())
    if not found:
        known = " and like the images of the training" if card.input_ranges else ""
        found.append(Finding(guard="input", level="fine", sentence=f"The image is neither empty nor cut off{known}."))
    return found


def _of_pair(
    planes: _Planes, result: NDArray[Any], request: CheckRequest, step: Step | None
) -> tuple[list[Finding], list[GuardMap]]:
    fit = _fit_of(planes.image, result, request.record, step)
    residual = check_residual(planes.image, result, fit=fit, share=request.share)
    support = check_support(planes.image, result, noise=residual.noise)
    limit = float(np.percentile(np.abs(residual.residual), 99.5)) or 1.0
    maps = [
        _map("residual", residual.residual, False, limit, "image − fitted result, in grey values of the image"),
        _map("objects in one only", support.flags, True, 0.0, "1: in the image only; 2: in the result only"),
    ]
    findings = [judge_objects(support)]
    if fit == "affine":
        findings.insert(0, judge_residual(residual))
        what = "1: the image holds more (removed?); 2: the result holds more (added?); 3: only the texture differs"
        maps.insert(1, _map("structure in the residual", residual.flags, True, 0.0, what))
    return findings, maps


def _fit_of(
    image: NDArray[np.float64], result: NDArray[Any], record: Mapping[str, Any] | None, step: Step | None
) -> Fit:
    """A straight line for what keeps grey values, a rising curve for what changes the contrast."""
    from scipy.ndimage import gaussian_filter

    if record is not None and method_of(record):
        return "affine" if method_of(record) in _KEEPS_GREY else "monotone"
    if step is not None:
        return "affine" if kind_of(step) in ("denoise", "restore") else "monotone"
    y, x = gaussian_filter(image, 2.0), gaussian_filter(result, 2.0)
    bent, straight = (float(np.var(y - fit_result(y, x, fit))) for fit in ("monotone", "affine"))
    return "affine" if bent > _STRAIGHT * straight else "monotone"
