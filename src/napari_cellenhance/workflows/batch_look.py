"""A batch looked at before it runs: which files it would do, what memory it needs, and the line for a terminal."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from napari_cellenhance.core.errors import CellEnhanceError
from napari_cellenhance.workflows._batch_plan import plan_tasks
from napari_cellenhance.workflows._batch_steps import Machine, beside_of
from napari_cellenhance.workflows.batch import BatchRequest
from napari_cellenhance.workflows.batch_recipe import Recipe

__all__ = ["BatchLook", "command_for", "look", "recipe_of"]

_PROGRAM_MB = 450
"""Python, numpy, torch, a loaded network."""
_N_AT_ONCE = 4
"""Images with their results: one is read ahead, one computed, one written, one waits."""
_N_TRIED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLook:
    """What a batch would do.

    Parameters
    ----------
    names : tuple of str
        Of the files, in order, with slashes.
    largest : str
        Name of the largest one that could be opened; empty where none could without reading it.
    images_mb : float or None
        Memory of the images and results that are held at one time, and of the program, in MB; None where no size is
        known.
    """

    names: tuple[str, ...]
    largest: str = ""
    images_mb: float | None = None

    def found(self, n_named: int = 3) -> str:
        """Say how many there are, and name the first ones.

        >>> BatchLook(names=("a.tif", "b.tif", "c.tif", "d.tif")).found()
        '4 images: a.tif, b.tif, c.tif, …'
        """
        more = ", …" if len(self.names) > n_named else ""
        count = "1 image" if len(self.names) == 1 else f"{len(self.names)} images"
        return f"{count}: {', '.join(self.names[:n_named])}{more}"

    def need(self, machine: Machine) -> str:
        """Say what memory it takes; empty where that is not known.

        >>> BatchLook(names=("a.tif",), largest="a.tif", images_mb=470.0).need(Machine())
        'Needs about 0.5 GB of memory (the largest image is a.tif), and up to 2.0 GB while a plane is worked on.'
        """
        if self.images_mb is None:
            return ""
        return (
            f"Needs about {max(0.1, self.images_mb / 1000):.1f} GB of memory (the largest image is {self.largest}), "
            f"and up to {machine.memory_limit_mb / 1000:.1f} GB while a plane is worked on."
        )


def look(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str] | None = None,
    recipe: Recipe | None = None,
    *,
    is_recursive: bool = False,
) -> BatchLook:
    """Find the files of a batch, and open the largest one to learn what memory it takes; writes nothing.

    Parameters
    ----------
    source : path
        As in ``BatchRequest``.
    target : path or None
        Images below it are results; None where it is not known yet.
    recipe : Recipe or None
        For the number of results.

    Raises
    ------
    ParameterError
        No images; results that would replace originals or each other.
    """
    out = Path(target) if target is not None else _beside(Path(source))
    names = () if recipe is None else beside_of(recipe)
    tasks = plan_tasks(
        source, out, is_recursive=is_recursive, has_labels=recipe is not None and recipe.finds_objects, beside=names
    )
    n_results = 1 + len(names) + (recipe is not None and recipe.finds_objects)
    by_size = sorted(tasks, key=lambda task: _size_of(task.source), reverse=True)
    for task in by_size[:_N_TRIED]:
        if (found := _pixels_of(task.source)) is not None:
            n_pixels, n_bytes = found
            images_mb = _PROGRAM_MB + _N_AT_ONCE * n_pixels * (n_bytes + 4 * n_results) / 1e6
            return BatchLook(names=tuple(task.name for task in tasks), largest=task.name, images_mb=images_mb)
    return BatchLook(names=tuple(task.name for task in tasks))


def _beside(source: Path) -> Path:
    """A folder that holds none of the images."""
    return source / "cellenhance-no-results-yet" if source.is_dir() else Path("cellenhance-no-results-yet").absolute()


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _pixels_of(path: Path) -> tuple[int, int] | None:
    """Pixels of an image, and bytes of each, without reading them; None where that cannot be told."""
    from napari_cellenhance.io.lazy_images import open_lazily

    try:
        with open_lazily(path) as image:
            return image.levels[0].size, image.levels[0].dtype.itemsize
    except (CellEnhanceError, OSError):  # a broken file is found out when its turn comes
        return None


def recipe_of(path: str | os.PathLike[str]) -> Recipe:
    """Recipe in a JSON file, or by which a result (an image) was made.

    Raises
    ------
    ParameterError, ImageError, OSError
        As for ``batch_recipe.read_recipe`` and ``from_result``.
    """
    from napari_cellenhance.workflows.batch_recipe import from_result, read_recipe

    return read_recipe(path) if Path(path).suffix.lower() == ".json" else from_result(path)


def command_for(request: BatchRequest, recipe: str | os.PathLike[str]) -> str:
    """Line for a terminal that does the same batch.

    Parameters
    ----------
    request : BatchRequest
    recipe : path
        JSON file that holds its recipe.

    Examples
    --------
    >>> from napari_cellenhance.workflows.requests import EnhanceRequest
    >>> gamma = Recipe(steps=(EnhanceRequest(image=None, axes="", filter_id="gamma"),))
    >>> command_for(BatchRequest(source="my plate", target="out", recipe=gamma, is_recursive=True), "gamma.json")
    "cellenhance batch 'my plate' out --recipe gamma.json --recursive"
    """
    plain, machine = Machine(), request.machine
    words = [
        "cellenhance",
        "batch",
        os.fspath(request.source),
        os.fspath(request.target),
        "--recipe",
        os.fspath(recipe),
    ]
    words += ["--recursive"] * request.is_recursive
    words += ["--tables", request.tables] if request.recipe.measure and request.tables != "csv" else []
    words += ["--overwrite"] * request.overwrite
    words += ["--device", machine.device] if machine.device != plain.device else []
    words += ["--precision", machine.precision] if machine.precision != plain.precision else []
    words += ["--memory", str(machine.memory_limit_mb)] if machine.memory_limit_mb != plain.memory_limit_mb else []
    return shlex.join(words)
