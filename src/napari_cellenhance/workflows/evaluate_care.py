"""Score restorations on pairs of poor and clean images, beside classical filters, deconvolution and denoisers.

Nothing learns here: models are scored on images that they should not have seen.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.doubt import DoubtScore, contrast_of, score_doubt
from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.microscope import Optics
from napari_cellenhance.workflows._evaluate_cells import made_folder
from napari_cellenhance.workflows._evaluate_doubts import SHARES, doubt_row, doubts_table
from napari_cellenhance.workflows._evaluate_images import CLASSICAL, Plane, best_of, fitted, mean_sd, middle_window
from napari_cellenhance.workflows._evaluate_images import scores_of as affine_scores
from napari_cellenhance.workflows.care_pairs import LearningPair, read_pair_files
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, Progress, never_cancelled, no_progress
from napari_cellenhance.zoo.cards import ModelCard
from napari_cellenhance.zoo.manifest import list_models, read_user_card

if TYPE_CHECKING:
    from napari_cellenhance.io.panel_figures import Picture

__all__ = ["METHODS", "CareEvaluation", "EvaluateCareRequest", "run", "save", "to_markdown"]

TITLES: Mapping[str, str] = {
    "noisy": "poor image",
    "gaussian": "Gaussian, best σ",
    "median": "median, best size",
    "nlm": "non-local means, best h",
    "richardson-lucy": "Richardson-Lucy, best setting",
}
METHODS = tuple(TITLES)
_ITERATIONS = (2, 5, 10, 20)
_SIGMAS_PX = (0.8, 1.2, 1.8)
"""Of Gaussian point spread functions where the objective is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateCareRequest:
    """What to score.

    Parameters
    ----------
    data : path
        Pairs: a folder with ``noisy`` and ``clean``, or a JSON list (planes only).
    out : path
        Folder of the results, made if missing.
    data_root : path, optional
        What the paths in the JSON are relative to.
    methods : tuple of str
        Out of ``METHODS``, and ids of models that restore or denoise, or paths of their cards (``.json``).
    n_dims : 2 or 3
        3: volumes (Z, Y, X). Models of planes see them plane by plane; non-local means, too.
    optics : Optics
        Of the deconvolution; without a pixel size, Gaussian point spread functions of several widths are tried, for
        volumes without blur along Z.
    repeats : 1, 2 or 3
        Applications of models that restore.
    """

    data: str | os.PathLike[str] = ""
    out: str | os.PathLike[str] = ""
    data_root: str | os.PathLike[str] | None = None
    methods: tuple[str, ...] = ("noisy", "gaussian", "richardson-lucy")
    n_dims: Literal[2, 3] = 2
    optics: Optics = field(default_factory=Optics)
    repeats: int = 1
    device: str = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"

    def __post_init__(self) -> None:
        if not self.methods:
            raise ParameterError("no method was chosen; expected some of: " + ", ".join(METHODS))


@dataclass(frozen=True, slots=True, kw_only=True)
class CareEvaluation:
    """Scores of every pair.

    Parameters
    ----------
    rows : list of dict
        ``image``, ``group``, ``method``, ``setting`` (chosen by the truth), ``psnr`` (dB), ``ssim`` and ``mae`` (share
        of the range), all after the best affine fit to the clean image and relative to its range from smallest to
        largest, SSIM of volumes as the mean of their planes; ``within_half`` (share of pixels whose error, in
        normalised units, is within σ·ln 2; None without likelihood); ``seconds``.
    doubts : list of (image, method, DoubtScore)
        Of models that know an uncertainty: how doubt at each of ``SHARES`` agrees with the true errors.
    """

    rows: list[dict[str, Any]]
    doubts: list[tuple[str, str, DoubtScore]] = field(default_factory=list)
    pictures: dict[str, list[Picture]] = field(default_factory=dict)
    seconds: float = 0.0
    is_complete: bool = True


@dataclass(frozen=True, slots=True)
class _Made:
    image: Plane
    setting: str = ""
    within_half: float | None = None
    doubts: tuple[DoubtScore, ...] = ()


def run(
    request: EvaluateCareRequest,
    *,
    on_progress: OnProgress = no_progress,
    is_cancelled: IsCancelled = never_cancelled,
) -> CareEvaluation:
    """Restore every poor image by every method, and score.

    Raises
    ------
    ImageError, ParameterError
        Pairs that cannot be read; an unknown method.
    """
    from napari_cellenhance.io.panel_figures import Picture

    begun = time.monotonic()
    known = {card.id: card for card in list_models() if card.recipe in ("care", "n2v")}
    cards = {method: _card(method, known) for method in request.methods if method not in TITLES}
    pairs = read_pair_files(request.data, data_root=request.data_root, n_dims=request.n_dims)
    rows: list[dict[str, Any]] = []
    doubts: list[tuple[str, str, DoubtScore]] = []
    pictures: dict[str, list[Picture]] = {}
    shown = _shown(pairs)
    for k, method in enumerate(request.methods):
        apply = _method(request, method, cards.get(method))
        title = _title(method)
        for i, pair in enumerate(pairs):
            if is_cancelled():
                return CareEvaluation(rows=rows, doubts=doubts, seconds=time.monotonic() - begun, is_complete=False)
            n_done = k * len(pairs) + i
            on_progress(
                Progress(n_done=n_done, n_total=len(pairs) * len(request.methods), message=f"{title}: {pair.name}")
            )
            started = time.monotonic()
            made = apply(pair)
            rows.append(
                {"image": pair.name, "group": pair.group, "method": method, "setting": made.setting}
                | _scores(made, pair) | {"seconds": time.monotonic() - started}
            )  # fmt: skip
            doubts += [(pair.name, method, one) for one in made.doubts]
            if i in shown:
                shown_part = _middle(fitted(made.image, pair.clean))
                pictures.setdefault(pair.name, []).append(Picture(title, shown_part, limits=_limits(pair.clean)))
    for i in shown:
        clean = pairs[i].clean
        pictures[pairs[i].name].append(Picture("clean", _middle(clean), limits=_limits(clean)))
    return CareEvaluation(rows=rows, doubts=doubts, pictures=pictures, seconds=time.monotonic() - begun)


def _title(method: str) -> str:
    return TITLES.get(method, Path(method).stem if method.endswith(".json") else method)


def _card(method: str, known: Mapping[str, ModelCard]) -> ModelCard:
    card = read_user_card(method) if method.endswith(".json") else known.get(method)
    if card is None or card.recipe not in ("care", "n2v"):
        raise ParameterError(
            f"there is no method {method!r}; expected some of: {', '.join((*METHODS, *sorted(known)))}, or the card of "
            "a model that restores or denoises"
        )
    return card


def _shown(pairs: Sequence[LearningPair]) -> tuple[int, ...]:
    """Pairs to show: all exposures of the first sample, four at most."""
    return tuple(i for i, pair in enumerate(pairs) if pair.group == pairs[0].group)[:4]


def _middle(image: NDArray[Any]) -> NDArray[Any]:
    """Of a plane its middle, of a volume that of its middle plane."""
    plane = image[len(image) // 2] if image.ndim == 3 else image
    return plane[middle_window(plane)]


def _axes_of(pair: LearningPair) -> str:
    return "ZYX"[-pair.poor.ndim :]


def _limits(clean: Plane) -> tuple[float, float]:
    return float(np.percentile(clean, 0.1)), float(np.percentile(clean, 99.9))


def _scores(made: _Made, pair: LearningPair) -> dict[str, Any]:
    span = float(np.ptp(pair.clean))
    error = np.abs(fitted(made.image, pair.clean) - pair.clean)
    return {
        **affine_scores(made.image, pair.clean, span), "mae": float(error.mean()) / span,
        "within_half": made.within_half,
    }  # fmt: skip


def _method(request: EvaluateCareRequest, method: str, card: ModelCard | None) -> Any:
    """What makes an image of a pair; models are opened once."""
    if method == "richardson-lucy":
        return lambda pair: _Made(*_deconvolved(pair, request.optics))
    if card is None:
        return lambda pair: _Made(*CLASSICAL[method](pair.poor, pair.clean))
    return _restoring(request, method) if card.recipe == "care" else _denoising(request, method)


def _denoising(request: EvaluateCareRequest, method: str) -> Any:
    from napari_cellenhance.workflows import denoise

    opened = denoise.open_denoiser(method, request.device, request.precision)

    def apply(pair: LearningPair) -> _Made:
        return _Made(denoise.apply(denoise.DenoiseRequest(image=pair.poor, axes=_axes_of(pair)), opened).image)

    return apply


def _restoring(request: EvaluateCareRequest, method: str) -> Any:
    from napari_cellenhance.core.affine_fit import PairMoments
    from napari_cellenhance.core.normalize import fit_normalizer
    from napari_cellenhance.core.recipes.care import within_half
    from napari_cellenhance.workflows import restore

    opened = restore.open_restorer(method, request.device, request.precision)
    if opened.restorer.n_dims > request.n_dims:
        raise ParameterError(f"the model {method!r} restores volumes, and planes are scored here; score volumes (--3d)")
    card = opened.card.normalization
    recipe = opened.card.training.get("recipe")
    is_matched = isinstance(recipe, dict) and recipe.get("clean_scale") == "poor"

    def apply(pair: LearningPair) -> _Made:
        job = restore.RestoreRequest(image=pair.poor, axes=_axes_of(pair), repeats=request.repeats)
        found = restore.apply(job, opened)
        note = f"{request.repeats} times" if request.repeats > 1 else ""
        if found.uncertainty is None:
            return _Made(found.image, note)
        # Both in the units of the training: the clean image by its own percentiles, or in grey values of the poor one.
        of_poor = fit_normalizer(card.name, pair.poor, **card.parameters)
        low, high = of_poor.denormalize(np.array([0.0, 1.0]))
        if is_matched:
            moments = PairMoments()
            moments.add(pair.clean, pair.poor)
            clean = of_poor.normalize(moments.slope * pair.clean + moments.offset)
        else:
            clean = fit_normalizer(card.name, pair.clean, **card.parameters).normalize(pair.clean)
        error, scale = of_poor.normalize(found.image) - clean, found.uncertainty / np.float32(high - low)
        contrast = contrast_of(found.image) / np.float32(high - low)
        return _Made(
            found.image, note, within_half(error, scale), tuple(score_doubt(error, scale, contrast, SHARES))
        )  # fmt: skip

    return apply


def _deconvolved(pair: LearningPair, optics: Optics) -> tuple[Plane, str]:
    """Richardson-Lucy with the point spread function and the number of iterations that the truth likes best."""
    from skimage.restoration import richardson_lucy

    low, high = float(pair.poor.min()), float(pair.poor.max())
    if high <= low:
        raise ImageError(f"“{pair.name}” has one single grey value")
    unit = ((pair.poor - low) / (high - low)).astype(np.float64)
    found = {
        f"{name}, {n} iterations": np.asarray(
            richardson_lucy(unit, psf, num_iter=n, clip=False, filter_epsilon=1e-6),  # type: ignore[no-untyped-call]
            np.float32,
        )
        for name, psf in _psfs(optics, pair.poor.ndim).items()
        for n in _ITERATIONS
    }
    return best_of(found, pair.clean)


def _psfs(optics: Optics, n_dims: int) -> dict[str, NDArray[np.float64]]:
    from napari_cellenhance.core.microscope import point_spread

    if optics.pixel_um and optics.kind != "none":
        return {f"{optics.kind} of the objective": point_spread(optics, 3 if n_dims == 3 else 2)}
    # σ = 0.21·λ/NA, so these units make it one pixel.
    wide = {sigma: Optics(na=0.21, wavelength_um=1.0, pixel_um=1.0 / sigma) for sigma in _SIGMAS_PX}
    flat = {f"σ {sigma:g} px": point_spread(one) for sigma, one in wide.items()}
    return {name: psf[None] if n_dims == 3 else psf for name, psf in flat.items()}


# --- telling it -------------------------------------------------------------------------------


def save(result: CareEvaluation, request: EvaluateCareRequest) -> list[Path]:
    """Write ``scores.json``, ``scores.csv``, ``scores.md`` and ``pictures.png``; ``doubts.csv``, ``.md``."""
    from napari_cellenhance import __version__
    from napari_cellenhance.io.panel_figures import pictures_png
    from napari_cellenhance.io.reports import write_json
    from napari_cellenhance.io.safe_write import atomic_path
    from napari_cellenhance.io.tables import write_table

    if not result.rows:
        raise ParameterError("nothing was scored, so there is nothing to write")
    folder = made_folder(Path(request.out))
    record = {
        "version": __version__, "is_complete": result.is_complete, "seconds": round(result.seconds, 1),
        "request": asdict(request), "rows": result.rows,
    }  # fmt: skip
    written = [write_json(folder / "scores.json", record), *write_table(folder / "scores.csv", result.rows)]
    with atomic_path(folder / "scores.md") as temporary:
        temporary.write_text(to_markdown(result) + "\n", encoding="utf-8")
    written.append(folder / "scores.md")
    if result.doubts:
        written += write_table(folder / "doubts.csv", [doubt_row(*one) for one in result.doubts])
        with atomic_path(folder / "doubts.md") as temporary:
            temporary.write_text(doubts_table(result.doubts, _title) + "\n", encoding="utf-8")
        written.append(folder / "doubts.md")
    if result.pictures:
        pictures_png(folder / "pictures.png", result.pictures)
        written.append(folder / "pictures.png")
    return written


def to_markdown(result: CareEvaluation) -> str:
    """A table: mean ± sd over all pairs."""
    lines = ["| | PSNR, dB | SSIM | MAE, share of the range | within σ·ln 2 |", "|---|---:|---:|---:|---:|"]
    for method in dict.fromkeys(row["method"] for row in result.rows):
        rows = [row for row in result.rows if row["method"] == method]
        cells = [
            mean_sd([row["psnr"] for row in rows]), mean_sd([row["ssim"] for row in rows], 3),
            mean_sd([row["mae"] for row in rows], 4),
            mean_sd([row["within_half"] for row in rows if row["within_half"] is not None], 3),
        ]  # fmt: skip
        lines.append(f"| {_title(method)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
