"""Score denoisers on pairs of noisy and clean images, beside classical filters and what was learned elsewhere.

A network that learns here sees the noisy images only; clean ones are for the score. Everything that is done is kept, so
a run that was stopped goes on where it was.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.io.pairs import PairedSource, read_pairs
from napari_cellenhance.workflows._evaluate_cells import CellStore, made_folder
from napari_cellenhance.workflows._evaluate_images import CLASSICAL, Plane, fitted, mean_sd, middle_window, scores_of
from napari_cellenhance.workflows.denoise import DEFAULT_DENOISER, DenoiseRequest
from napari_cellenhance.workflows.noisy_images import NoisyLayer
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, Progress, never_cancelled, no_progress
from napari_cellenhance.workflows.train_n2v import N2VRequest
from napari_cellenhance.zoo.manifest import read_user_card

if TYPE_CHECKING:
    from napari_cellenhance.io.panel_figures import Picture

__all__ = ["METHODS", "EvaluateN2VRequest", "N2VEvaluation", "run", "save", "to_markdown"]

TITLES: Mapping[str, str] = {
    "noisy": "noisy image",
    "gaussian": "Gaussian, best σ",
    "median": "median, best size",
    "nlm": "non-local means, best h",
    "generalist": "bundled denoiser, not trained here",
    "n2v": "N2V, trained on these images",
    "n2v2": "N2V2, trained on these images",
    "n2v2-tuned": "N2V2, bundled denoiser trained on",
}
METHODS = tuple(TITLES)
_RANGE = 255.0
_TRAINING = N2VRequest(data="", out="", n_steps=3000, validate_every=250, install=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateN2VRequest:
    """What to score, and how networks are trained.

    Parameters
    ----------
    data : path
        Pairs; see ``io.pairs.read_pairs``. Each source is one kind of image and gets a network of its own.
    out : path
        Folder of the results, made if missing.
    data_root : path, optional
        What the paths in the JSON are relative to.
    methods : tuple of str
        Out of ``METHODS``, and ids of denoisers or paths of their cards (``.json``).
    training : N2VRequest
        How networks are trained; its ``data``, ``out``, ``variant`` and ``init_from`` are set here.
    symmetries : 1 or 8
        Of the denoising.
    """

    data: str | os.PathLike[str] = ""
    out: str | os.PathLike[str] = ""
    data_root: str | os.PathLike[str] | None = None
    methods: tuple[str, ...] = ("noisy", "gaussian", "median", "nlm", "generalist", "n2v2", "n2v2-tuned")
    training: N2VRequest = field(default_factory=lambda: _TRAINING)
    symmetries: int = 1

    def __post_init__(self) -> None:
        if not self.methods:
            raise ParameterError("no method was chosen; expected some of: " + ", ".join(METHODS))


@dataclass(frozen=True, slots=True, kw_only=True)
class N2VEvaluation:
    """Scores of every pair.

    Parameters
    ----------
    rows : list of dict
        ``source``, ``image``, ``method``, ``setting`` (chosen by the truth, of classical filters), ``psnr`` (dB, after
        the best affine fit), ``ssim`` (after the same fit), ``seconds`` (one image).
    """

    rows: list[dict[str, Any]]
    seconds: float
    is_complete: bool = True


def run(
    request: EvaluateN2VRequest,
    *,
    on_progress: OnProgress = no_progress,
    is_cancelled: IsCancelled = never_cancelled,
) -> N2VEvaluation:
    """Train where a method needs it, denoise every image, score.

    Raises
    ------
    ImageError, ParameterError
        Pairs that cannot be read; an unknown method.
    ModelNotFoundError
        A denoiser that is not there.
    """
    begun = time.monotonic()
    sources = read_pairs(request.data, data_root=request.data_root)
    for method in request.methods:
        _check(method)
    store = CellStore(Path(request.out) / "cells")
    rows: list[dict[str, Any]] = []
    jobs = [(source, method) for source in sources for method in request.methods]
    for i, (source, method) in enumerate(jobs):
        if is_cancelled():
            return N2VEvaluation(rows=rows, seconds=time.monotonic() - begun, is_complete=False)
        note = f"{source.name}: {_title(method)}"
        on_progress(Progress(n_done=i, n_total=len(jobs), message=note))
        identity = _identity(request, source, method)
        cell = store.find(identity)
        if cell is None:
            found = _apply(request, source, method, on_progress, is_cancelled)
            if found is None:
                return N2VEvaluation(rows=rows, seconds=time.monotonic() - begun, is_complete=False)
            images, settings, seconds = found
            cell = {"rows": _scored(source, images, settings, seconds)}
            store.keep(identity, cell, {"image": images[0]})
        rows += [{"source": source.name, "method": method, **row} for row in cell["rows"]]
    return N2VEvaluation(rows=rows, seconds=time.monotonic() - begun)


def _title(method: str) -> str:
    return TITLES.get(method, Path(method).stem if method.endswith(".json") else method)


def _check(method: str) -> None:
    from napari_cellenhance.workflows.denoise import list_denoisers

    known = {card.id for card in list_denoisers()}
    if method.endswith(".json"):
        read_user_card(method)
    elif method not in METHODS and method not in known:
        raise ParameterError(
            f"there is no method {method!r}; expected some of: {', '.join((*METHODS, *sorted(known)))}"
        )


def _identity(request: EvaluateN2VRequest, source: PairedSource, method: str) -> dict[str, Any]:
    """All that decides a result."""
    from napari_cellenhance.workflows.denoise import list_denoisers

    digest = hashlib.sha256()
    for plane in (*source.noisy, *source.clean):
        digest.update(np.ascontiguousarray(plane).tobytes())
    known: dict[str, Any] = {"source": source.name, "images": digest.hexdigest(), "method": method}
    if method in ("n2v", "n2v2", "n2v2-tuned"):
        training = asdict(_training(request, source, method))
        known["training"] = {k: v for k, v in training.items() if k not in ("data", "out", "n_threads", "resume")}
    if method not in CLASSICAL:
        known["symmetries"] = request.symmetries
        hashes = {card.id: card.file.sha256 for card in list_denoisers()}
        if method.endswith(".json"):
            known["model"] = read_user_card(method).file.sha256
        else:
            known["model"] = hashes.get(DEFAULT_DENOISER if method in ("generalist", "n2v2-tuned") else method)
    return known


def _training(request: EvaluateN2VRequest, source: PairedSource, method: str) -> N2VRequest:
    from napari_cellenhance.io.safe_write import safe_name

    name = safe_name(f"{source.name}-{method}")
    layers = tuple(
        NoisyLayer(name=f"{source.name} {i}", image=plane, axes="YX") for i, plane in enumerate(source.noisy)
    )
    return replace(
        request.training, data=layers, out=Path(request.out) / "trainings" / name, model_id=_model_id(name),
        variant="n2v" if method == "n2v" else "n2v2",
        init_from=DEFAULT_DENOISER if method == "n2v2-tuned" else None, resume=True, install=False,
    )  # fmt: skip


def _model_id(name: str) -> str:
    kept = "".join(c if c.isalnum() else "-" for c in name.lower()).strip("-")
    return f"evaluated-{kept}"


def _apply(
    request: EvaluateN2VRequest, source: PairedSource, method: str, on_progress: OnProgress, is_cancelled: IsCancelled
) -> tuple[list[Plane], list[str], float] | None:
    """Every image by one method, the setting that was chosen for each, and the seconds of one image; None: stopped."""
    if method in CLASSICAL:
        pairs = list(zip(source.noisy, source.clean, strict=True))
        begun = time.monotonic()
        chosen = [CLASSICAL[method](noisy, clean) for noisy, clean in pairs]
        seconds = (time.monotonic() - begun) / len(pairs)
        return [image for image, _ in chosen], [setting for _, setting in chosen], seconds
    if method in ("n2v", "n2v2", "n2v2-tuned"):
        from napari_cellenhance.workflows.train_n2v import run as train

        training = _training(request, source, method)
        result = train(training, on_progress=on_progress, is_cancelled=is_cancelled)
        if is_cancelled() or result.card is None:
            return None
        images, seconds = _denoised(request, source, result.card)
        return images, [f"update {result.best_step}"] * len(images), seconds
    images, seconds = _denoised(request, source, DEFAULT_DENOISER if method == "generalist" else method)
    return images, [""] * len(images), seconds


def _denoised(request: EvaluateN2VRequest, source: PairedSource, model: str | Path) -> tuple[list[Plane], float]:
    from napari_cellenhance.workflows import denoise

    training = request.training
    opened = denoise.open_denoiser(str(model), training.device, training.precision)
    images, begun = [], time.monotonic()
    for noisy in source.noisy:
        job = DenoiseRequest(image=noisy, axes="YX", symmetries=8 if request.symmetries == 8 else 1)
        images.append(denoise.apply(job, opened).image)
    return images, (time.monotonic() - begun) / len(images)


def _scored(
    source: PairedSource, images: Sequence[Plane], settings: Sequence[str], seconds: float
) -> list[dict[str, Any]]:
    return [
        {"image": i, "setting": setting, **scores_of(image, clean, _RANGE), "seconds": seconds}
        for i, (image, clean, setting) in enumerate(zip(images, source.clean, settings, strict=True))
    ]


# --- telling it -------------------------------------------------------------------------------


def save(result: N2VEvaluation, request: EvaluateN2VRequest) -> list[Path]:
    """Write ``scores.json``, ``scores.csv``, ``scores.md`` and ``pictures.png``."""
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
    pictures_png(folder / "pictures.png", _pictures(result, request))
    return [*written, folder / "scores.md", folder / "pictures.png"]


def to_markdown(result: N2VEvaluation) -> str:
    """A table: PSNR and SSIM of each source, mean ± sd over its images, and over all."""
    sources = list(dict.fromkeys(row["source"] for row in result.rows))
    methods = list(dict.fromkeys(row["method"] for row in result.rows))
    lines = [
        "| | " + " | ".join((*sources, "all", "SSIM, all")) + " |",
        "|---|" + "---:|" * (len(sources) + 2),
    ]
    for method in methods:
        rows = [row for row in result.rows if row["method"] == method]
        cells = [mean_sd([row["psnr"] for row in rows if row["source"] == source]) for source in sources]
        cells += [f"{np.mean([row['psnr'] for row in rows]):.2f}", f"{np.mean([row['ssim'] for row in rows]):.3f}"]
        lines.append(f"| {_title(method)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _pictures(result: N2VEvaluation, request: EvaluateN2VRequest) -> dict[str, list[Picture]]:
    """The first image of every source by every method, stretched as the clean one is; a 256 px window of large ones."""
    from napari_cellenhance.io.panel_figures import Picture

    store = CellStore(Path(request.out) / "cells")
    rows: dict[str, list[Picture]] = {}
    for source in read_pairs(request.data, data_root=request.data_root):
        clean = source.clean[0]
        window = middle_window(clean)
        limits = (float(np.percentile(clean, 0.1)), float(np.percentile(clean, 99.9)))
        shown = []
        for method in request.methods:
            image = store.example(_identity(request, source, method)).get("image")
            plane = None if image is None else fitted(image, clean)[window]
            shown.append(Picture(_title(method), plane, limits=limits))
        rows[source.name] = [*shown, Picture("clean", clean[window], limits=limits)]
    return rows
