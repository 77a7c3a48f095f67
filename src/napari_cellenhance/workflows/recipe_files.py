"""A recipe on a file: read, do all steps, write with a recipe beside it, compare with what was made before."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.workflows._file_loop import refuse_hopeless
from napari_cellenhance.workflows._file_results import write_result
from napari_cellenhance.workflows._provenance import hash_image
from napari_cellenhance.workflows._record_files import record_path, write_record_beside
from napari_cellenhance.workflows._targets import Targets, path_beside, plan
from napari_cellenhance.workflows.batch_recipe import Recipe, record_in
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, never_cancelled, no_progress
from napari_cellenhance.workflows.recipe_run import Machine, RecipeRequest, RecipeResult, run

if TYPE_CHECKING:
    from napari_cellenhance.io.images import ImageFile

__all__ = ["Comparison", "RecipeFileRequest", "RecipeFileResult", "compare_pixels", "keep_recipe_beside", "run_file"]

_ROUNDING = 1e-4
"""Largest difference, as a share of the range of grey values, that other processors and threads may make."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeFileRequest:
    """Do a recipe with one file.

    Parameters
    ----------
    source, target : path
        TIFF, OME-TIFF or PNG in; OME-TIFF or PNG out. Labels and further pictures lie beside the target.
    recipe : Recipe
    axes : str
        Of the file, where it does not tell them, or wrongly.
    check : path or None
        A result that was made before, to compare with.
    """

    source: str | os.PathLike[str]
    target: str | os.PathLike[str]
    recipe: Recipe
    axes: str = ""
    check: str | os.PathLike[str] | None = None
    any_weights: bool = False
    overwrite: bool = False
    machine: Machine = Machine()  # noqa: RUF009 - it is frozen


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A result against one that was made before.

    Parameters
    ----------
    verdict : "same", "rounding" or "different"
        "rounding": as other processors and numbers of threads differ.
    max_difference : float
        Largest of all pixels, in grey values; NaN where shapes differ.
    differing : float
        Share of pixels that are not exactly the same.
    name : str
        Of what was compared: "image", "labels", "uncertainty", …
    remedy : str
        Options that would compute as was computed then; empty where that was so.
    """

    verdict: Literal["same", "rounding", "different"]
    max_difference: float
    differing: float
    name: str
    remedy: str = ""

    def sentence(self, path: str) -> str:
        """Say it in one line."""
        is_many = self.name == "labels"
        has, is_, differs = ("have", "are", "differ") if is_many else ("has", "is", "differs")
        if self.verdict == "same":
            return f"the {self.name} {has} the same pixels as {path} (largest difference 0)"
        if np.isnan(self.max_difference):
            return f"the {self.name} {has} another shape than {path}; they cannot be compared"
        how = f"largest difference {self.max_difference:.3g}, {100 * self.differing:.3g} % of pixels"
        if self.verdict == "rounding":
            return (
                f"the {self.name} {is_} the same as {path} but for rounding ({how}), as processors and threads differ"
            )
        why = f": it was computed in another way; once more with {self.remedy}" if self.remedy else ""
        return f"the {self.name} {differs} from {path} ({how}){why}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeFileResult:
    """Files written, what was remarked, and how it compares.

    Parameters
    ----------
    is_same_input : bool or None
        Whether the file holds the very pixels that the recipe was made with; None where the recipe does not say.
    """

    targets: tuple[Path, ...]
    warnings: tuple[str, ...]
    is_same_input: bool | None = None
    comparison: Comparison | None = None


def run_file(
    request: RecipeFileRequest, *, on_progress: OnProgress = no_progress, is_cancelled: IsCancelled = never_cancelled
) -> RecipeFileResult | None:
    """Do a recipe with one file; None after a cancel, which leaves nothing behind.

    Raises
    ------
    ParameterError
        A target that cannot be; a model with other weights; a recipe whose tables only a folder can hold.
    TargetExistsError, WriteError
        The result is there already, or cannot be written.
    ModelNotFoundError, ImageError, AxesError, DownloadError, ChecksumError, DeviceError, OSError
        As for reading, and for the steps.
    """
    from napari_cellenhance.io.images import read

    if request.recipe.measure:
        raise ParameterError("this recipe measures objects into tables; give a folder for OUT")
    (targets,) = plan(request.source, request.target)
    for path in (targets.image, *_beside(targets.image, request.recipe).values()):
        refuse_hopeless(replace(targets, image=path), request.overwrite)
    file = read(targets.source)
    before = None if request.check is None else read(request.check)
    recipe = request.recipe
    job = RecipeRequest(
        image=file.image, axes=request.axes or recipe.steps[0].axes or file.axes, recipe=recipe,
        any_weights=request.any_weights, machine=request.machine, source_name=targets.source.name,
        pixel_size_um=file.pixel_size_um, earlier=file.provenance,
    )  # fmt: skip
    result = run(job, on_progress=on_progress, is_cancelled=is_cancelled)
    if result is None:
        return None
    written = _write(request, targets, file, result)
    return RecipeFileResult(
        targets=written, warnings=(*file.notes, *result.warnings),
        is_same_input=hash_image(file.image) == recipe.input_sha256 if recipe.input_sha256 else None,
        comparison=None if before is None else replace(
            _compare(before.image, result), remedy=_remedy(before.provenance, result.record)
        ),
    )  # fmt: skip


def _beside(path: Path, recipe: Recipe) -> dict[str, Path]:
    return {"labels": path_beside(path, "labels")} if recipe.finds_objects else {}


def _write(request: RecipeFileRequest, targets: Targets, file: ImageFile, result: RecipeResult) -> tuple[Path, ...]:
    """Everything that was made; the image comes last: where it is, the rest is complete."""
    written = []
    pictures = dict(result.beside)
    if result.labels is not None:
        pictures["labels"] = (result.labels, result.labels_axes)
    for name, (pixels, axes) in pictures.items():
        path = path_beside(targets.image, name)
        write_result(path, pixels, axes, file, result.record | {"shows": name}, overwrite=request.overwrite)
        written.append(path)
    write_record_beside(targets.image, result.record)
    write_result(
        targets.image, result.image, result.axes, file, result.record, overwrite=request.overwrite,
        dtype=request.recipe.dtype, channel_names=result.channel_names,
    )  # fmt: skip
    return (*written, record_path(targets.image), targets.image)


def _remedy(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> str:
    """Options for device and precision of an earlier record, where the present one has others."""
    then = before or {}
    differing = [name for name in ("device", "precision") if then.get(name) and then[name] != after.get(name)]
    return " ".join(f"--{name} {then[name]}" for name in differing)


def _compare(before: NDArray[Any], result: RecipeResult) -> Comparison:
    """Compare with that picture of the result that the earlier file shows, by its shape and kind of pixels."""
    pictures = {"image": result.image} | {name: pixels for name, (pixels, _) in result.beside.items()}
    if result.labels is not None:
        pictures = ({"labels": result.labels} | pictures) if before.dtype.kind in "ui" else pictures
    found = [compare_pixels(before, pixels, name) for name, pixels in pictures.items() if pixels.shape == before.shape]
    if not found:
        return compare_pixels(before, result.image, "image")
    return min(found, key=lambda one: (one.differing, one.max_difference))


def keep_recipe_beside(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Write the recipe of a result, which tells how it was made, as JSON beside it; what was warned of then.

    Raises
    ------
    ParameterError, ImageError, WriteError, OSError
        The file does not tell, cannot be read, or its folder cannot be written.
    """
    record = record_in(path)
    write_record_beside(Path(path), record)
    return tuple(map(str, record.get("warnings") or ()))


def compare_pixels(before: NDArray[Any], after: NDArray[Any], name: str = "image") -> Comparison:
    """Compare two arrays; pixels that are no numbers in both count as the same.

    >>> compare_pixels(np.zeros(2), np.array([0.0, 1.0])).verdict
    'different'
    """
    if before.shape != after.shape:
        return Comparison(verdict="different", max_difference=float("nan"), differing=1.0, name=name)
    one, two = before.astype(np.float64), after.astype(np.float64)
    gap = np.where(np.isnan(one) & np.isnan(two), 0.0, np.abs(one - two))
    largest = float(np.max(np.nan_to_num(gap, nan=np.inf), initial=0.0))
    is_grey = before.dtype.kind == "f"
    scale = float(np.nanmax(one, initial=0.0) - np.nanmin(one, initial=0.0)) or 1.0
    verdict: Literal["same", "rounding", "different"] = "same" if largest == 0 else "different"
    if largest > 0 and is_grey and largest <= _ROUNDING * scale:
        verdict = "rounding"
    return Comparison(verdict=verdict, max_difference=largest, differing=float(np.mean(gap != 0)), name=name)
