"""What a semantic filter is taught with, as a user chooses it: a folder of crops or a movie, looked at before."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.axes import check_axes
from napari_cellenhance.core.crop_library import CLASSES
from napari_cellenhance.core.errors import CellEnhanceError, ParameterError
from napari_cellenhance.workflows.noisy_images import NoisyLayer, portion_of
from napari_cellenhance.workflows.train_semantic import SemanticRequest, check_movie

if TYPE_CHECKING:
    from napari_cellenhance.core.crops import CropSet
    from napari_cellenhance.core.frame_pairs import BackgroundCheck

__all__ = [
    "CropCounts", "MovieLook", "PairSheet", "Sheet", "SheetAsk", "channels_taught", "count_crops", "crops_problem",
    "crops_warning", "look_at_movies", "movie_problem",
]  # fmt: skip

LEAST_FRAMES = 3
LEAST_PX = 32
N_PAIRS = 3
_MAX_LOOKS = 2
_SUFFIXES = (".tif", ".tiff")
_CLEAN_SHARE = 0.002


# --- a folder of crops --------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class CropCounts:
    """Files of a folder of crops, by class."""

    target: int
    unwanted: int
    discarded: int
    backgrounds: int

    @property
    def sentence(self) -> str:
        """What there is, in words."""
        left_out = f" {self.discarded} were left out." if self.discarded else ""
        noun = "background" if self.backgrounds == 1 else "backgrounds"
        return f"{self.target} crops “target”, {self.unwanted} “unwanted”, {self.backgrounds} {noun}.{left_out}"


def count_crops(folder: str | os.PathLike[str]) -> CropCounts | None:
    """Count the files of a folder of crops by their names alone; None where it is none."""
    from napari_cellenhance.io.crop_folders import BACKGROUNDS, is_crop_folder

    place = Path(folder)
    if not str(folder).strip() or not is_crop_folder(place):
        return None
    counts = {name: _count(place / name) for name in (*CLASSES, BACKGROUNDS)}
    return CropCounts(**{str(name): n for name, n in counts.items()})


def _count(folder: Path) -> int:
    if not folder.is_dir():
        return 0
    return sum(path.suffix.lower() in _SUFFIXES and not path.name.startswith(".") for path in folder.iterdir())


def crops_problem(folder: str | os.PathLike[str], *, is_swapped: bool = False) -> str:
    """Why a folder cannot teach what to keep, by the names of its files alone; else empty."""
    if not str(folder).strip():
        return "Choose a folder of crops: small pictures of what to keep, and of what not."
    if not Path(folder).is_dir():
        return f"There is no folder {folder}."
    counts = count_crops(folder)
    if counts is None:
        return (
            f"{folder} is no folder of crops: it has neither a folder “target” nor one “unwanted”. Make one with the "
            "dock “Crop library”, or with “cellenhance crops”."
        )
    kept, name = (counts.unwanted, "unwanted") if is_swapped else (counts.target, "target")
    if not counts.target and not counts.unwanted:
        return f"There are no crops in {folder}: its folders “target” and “unwanted” hold no TIFF file."
    if not kept:
        return f"There are no crops of the kind to keep (“{name}”). Keep the other kind, or add some."
    if kept < 2:
        return f"There is a single crop of the kind to keep (“{name}”): one teaches, another one checks. Add some."
    return ""


def crops_warning(counts: CropCounts, *, is_swapped: bool = False) -> str:
    """What is missing although a training is possible; empty where nothing is."""
    if not (counts.target if is_swapped else counts.unwanted):
        return "There are crops of one kind only: the filter can learn to remove the background, but no other objects."
    return "" if counts.backgrounds else "There is no background: images with uneven ground may be filtered badly."


def channels_taught(request: SemanticRequest) -> int:
    """Channels that will go through the network together, as far as one crop, or the layers, tell; at least 1.

    Raises
    ------
    AxesError, ImageError
        A crop or layer that cannot be read.
    """
    from napari_cellenhance.core.crops import CropSet
    from napari_cellenhance.io.images import read

    data = request.data
    if isinstance(data, CropSet):
        return data.n_channels
    if isinstance(data, tuple):
        return max((portion_of(layer).n_channels for layer in data), default=1)
    first = next((path for kind in CLASSES[:2] for path in sorted((Path(data) / kind).glob("*.tif*"))), None)
    if first is None:
        return 1
    file = read(first)
    return int(np.shape(file.image)[file.axes.index("C")]) if "C" in file.axes else 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SheetAsk:
    """Which pairs to draw: with the data and settings of ``request``; another number, other pairs."""

    request: SemanticRequest
    number: int = 0
    n_pairs: int = N_PAIRS


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sheet:
    """Synthetic pairs, as a network would see them.

    Parameters
    ----------
    rows : tuple of (first, second, wanted)
        Each of shape (Y, X), float32 in [0, 1]: both members of a pair, and the layer that they share. Colours as their
        mean.
    """

    rows: tuple[tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]], ...]


class PairSheet:
    """Draws synthetic pairs again and again; crops that were read are kept while their folder does not change.

    Not for several threads at a time.
    """

    def __init__(self) -> None:
        self._read: tuple[Any, CropSet] | None = None

    def draw(self, ask: SheetAsk) -> Sheet:
        """Draw the pairs.

        Raises
        ------
        ImageError, ParameterError
            Crops that cannot be read, or settings that do not fit them.
        """
        from napari_cellenhance.workflows._train_semantic_setup import scene_maker

        maker = scene_maker(replace(ask.request, data=self._crops(ask.request.data)))
        rng = np.random.default_rng([ask.request.seed, ask.number])
        rows = []
        for _ in range(ask.n_pairs):
            pair = maker.draw(rng)
            first, second, wanted = (
                part.mean(axis=0) for part in (pair.first.image, pair.second.image, pair.first.target)
            )
            rows.append((first, second, wanted))
        return Sheet(rows=tuple(rows))

    def _crops(self, data: Any) -> CropSet:
        from napari_cellenhance.core.crops import CropSet
        from napari_cellenhance.io.crop_folders import read_library

        if isinstance(data, CropSet):
            return data
        if isinstance(data, tuple):
            raise ParameterError("layers are movies; give a folder of crops, or crops")
        place = Path(data)
        key = place, tuple((name, (place / name).stat().st_mtime_ns) for name in _parts(place))
        if self._read is None or self._read[0] != key:
            self._read = key, read_library(place, has_discarded=False).crop_set()
        return self._read[1]


def _parts(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


# --- a movie ------------------------------------------------------------------------------


def movie_problem(layers: Sequence[NoisyLayer], lag: int) -> str:
    """Why movies cannot be learned from, as far as it is known without reading a pixel; else empty."""
    for layer in layers:
        try:
            axes = check_axes(layer.axes, np.shape(layer.image))
            portion = portion_of(layer)
        except CellEnhanceError as error:
            text = str(error)
            return f"{text[:1].upper()}{text[1:]}."
        n_frames = int(np.shape(layer.image)[axes.index("T")]) if "T" in axes else 1
        if "T" not in axes:
            return (
                f"“{layer.name}” has no time axis (its axes are {axes}). Write T for the axis that is time under "
                "“Axes”, or choose a movie."
            )
        if n_frames < LEAST_FRAMES:
            return f"“{layer.name}” has {n_frames} frames; a movie of {LEAST_FRAMES} or more is needed."
        # A single movie learns with its first frames and validates on its last ones; else whole movies are kept aside.
        longest = (n_frames - 2) // 2 if len(layers) == 1 else n_frames - 1
        if lag > longest:
            advice = f"choose {longest} or less" if longest else "choose a longer movie"
            return f"A lag of {lag} is too long for the {n_frames} frames of “{layer.name}”; {advice}."
        if min(portion.sides) < LEAST_PX:
            height, width = portion.sides
            return f"“{layer.name}” is {height} × {width} px; a training needs {LEAST_PX} px along each side."
        if portion.n_channels != portion_of(layers[0]).n_channels:
            return f"“{layer.name}” and “{layers[0].name}” have different channels; choose one channel of each."
    return ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MovieLook:
    """A movie before it teaches.

    Parameters
    ----------
    median, coverage : ndarray of shape (Y, X), float32 in [0, 1]
        Temporal median, stretched; share of the frames with an object.
    facts : tuple of str
        What was found, in sentences.
    warnings : tuple of str
        What speaks against it; empty where all is well.
    """

    name: str
    median: NDArray[np.float32]
    coverage: NDArray[np.float32]
    facts: tuple[str, ...]
    warnings: tuple[str, ...]


def look_at_movies(request: SemanticRequest) -> tuple[MovieLook, ...]:
    """Temporal median, and whether movies can teach what stands still; the first planes of a stack.

    Raises
    ------
    ImageError, AxesError, ParameterError
        As :func:`napari_cellenhance.workflows.train_semantic.check_movie`.
    """
    checks = check_movie(request, 500_000)
    return tuple(_look(name, check) for name, check in checks[:_MAX_LOOKS])


def _look(name: str, check: BackgroundCheck) -> MovieLook:
    low, high = (float(value) for value in np.percentile(check.median, (0.5, 99.5)))
    stretched = np.clip((check.median - low) / (high - low if high > low else 1.0), 0, 1)
    return MovieLook(
        name=name, median=stretched.astype(np.float32), coverage=check.coverage, facts=_facts(check),
        warnings=check.warnings,
    )  # fmt: skip


def _facts(check: BackgroundCheck) -> tuple[str, ...]:
    kind = {"dark": "dark", "bright": "bright", "both": "dark or bright"}[check.polarity]
    facts = [f"What moves is {kind} and covers {100 * check.share_covered:.1f} % of the pixels of a frame."]
    if check.share_covered and check.share_unclean <= _CLEAN_SHARE:
        facts.append("The median is clean: hardly a pixel is covered in half of the frames or more.")
    if check.share_covered and check.share_staying <= 0.5:
        noun = "frame" if check.lag == 1 else "frames"
        facts.append(f"Objects move on: after {check.lag} {noun}, {100 * check.share_staying:.0f} % still lie there.")
    return tuple(facts)
