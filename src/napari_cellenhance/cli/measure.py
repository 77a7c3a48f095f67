"""``cellenhance measure``: enhanced images beside the raw one, or results beside references."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from napari_cellenhance.cli.words import Debug, Json, ProgressLine, Quiet, complain, leave, print_json, stoppable
from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.workflows.measure_pairs import PairOptions

if TYPE_CHECKING:
    from napari_cellenhance.workflows.measure_pairs import Kind

__all__ = ["measure"]

_PAIR = PairOptions()


def measure(
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IN",
            help="RAW ENHANCED…: the image before, and enhanced versions. With a reference: results, or their folder.",
        ),
    ],
    reference: Annotated[
        Path | None, typer.Option(help="Clean image, or a folder of them: PSNR, affine PSNR, SSIM, MAE.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="True labels, or a folder of them: AP, precision, recall, F1, SEG, IoU, Dice.")
    ] = None,
    points: Annotated[
        Path | None,
        typer.Option(help="CSV of true points, or a folder of them: F1 of points (CSV), or of labels they lie in."),
    ] = None,
    mask: Annotated[
        Path | None, typer.Option(help="Mask or labels of the objects. [default: Otsu of the raw image, marked so]")
    ] = None,
    csv: Annotated[
        Path | None, typer.Option(help="Write the table as CSV, and a JSON on what was measured beside it.")
    ] = None,
    diameter: Annotated[
        float | None, typer.Option(help="Find blobs of this diameter too (pixels), and score them against the mask.")
    ] = None,
    data_range: Annotated[
        float | None,
        typer.Option("--range", help="With --reference: range of grey values. [default: of each reference]"),
    ] = None,
    kind: Annotated[
        Literal["objects", "classes", "boxes"] | None,
        typer.Option(
            "--as", help="With --labels: a number for each object or class, or boxes around objects. [default: objects]"
        ),
    ] = None,
    iou: Annotated[
        list[float] | None,
        typer.Option(help="With --labels: least overlap of a match; can be given again. [default: 0.5]"),
    ] = None,
    ignore: Annotated[
        int | None, typer.Option(help="With --as classes: label of the reference that counts for nothing.")
    ] = None,
    match_within: Annotated[
        float | None,
        typer.Option(help=f"With --points: largest distance, in pixels. [default: {_PAIR.match_within_px:g}]"),
    ] = None,
    axes: Annotated[str, typer.Option(help="Of all images, such as ZYX. [default: as in the files]")] = "",
    dark: Annotated[bool, typer.Option("--dark/--bright", help="Objects are dark in the raw image.")] = False,
    stretched: Annotated[
        bool, typer.Option("--stretched/--stored", help="Stretch images that are not within 0…1 first.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a table that is there already.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Compare enhanced images with the raw one, or results with references.

    RAW ENHANCED…: contrast ratio, gain, fold, Michelson, AUROC, Otsu IoU. With --reference, --labels or --points: each
    result against its reference of the same name, and the mean.
    """
    contrast_only = {"--mask": mask, "--diameter": diameter, "--dark": dark or None, "--stretched": stretched or None}
    chosen = _reference(reference, labels, points, kind, images)
    pair_only = {
        "--range": (data_range, ("images",)), "--as": (kind, ("objects", "classes", "boxes")),
        "--iou": (iou, ("objects", "boxes")),
        "--ignore": (ignore, ("classes",)), "--match-within": (match_within, ("points",)),
    }  # fmt: skip
    if chosen is None:
        _refuse([name for name, (value, _) in pair_only.items() if value is not None], "a reference; see --help")
        _compare(
            images, mask=mask, csv=csv, diameter=diameter, axes=axes, dark=dark, stretched=stretched,
            overwrite=overwrite, as_json=as_json, quiet=quiet,
        )  # fmt: skip
        return
    path, what = chosen
    _refuse([name for name, value in contrast_only.items() if value is not None], "RAW ENHANCED… without a reference")
    _refuse(
        [name for name, (value, kinds) in pair_only.items() if value is not None and what not in kinds],
        "another kind of measuring; see --help",
    )
    options = PairOptions(
        kind=what, data_range=data_range, min_iou=tuple(iou or _PAIR.min_iou), ignore=ignore,
        match_within_px=_PAIR.match_within_px if match_within is None else match_within,
    )  # fmt: skip
    _score(images, path, options, csv=csv, axes=axes, overwrite=overwrite, as_json=as_json, quiet=quiet)


def _reference(
    reference: Path | None,
    labels: Path | None,
    points: Path | None,
    kind: Literal["objects", "classes", "boxes"] | None,
    results: list[str],
) -> tuple[Path, Kind] | None:
    named: list[tuple[Path, Kind]] = []
    of_points = "points" if points is None or _are_tables(results) else "hits"
    for path, what in ((reference, "images"), (labels, kind or "objects"), (points, of_points)):
        if path is not None:
            named.append((path, what))  # type: ignore[arg-type]
    if len(named) > 1:
        raise ParameterError("--reference, --labels and --points were given together; measure one after the other")
    return named[0] if named else None


def _are_tables(results: list[str]) -> bool:
    """Whether results are points themselves, or labels that points should lie in."""
    for result in results:
        path = Path(result)
        if path.is_dir():
            return any(inside.suffix.lower() == ".csv" for inside in path.iterdir())
        if path.exists():
            return path.suffix.lower() == ".csv"
    return True


def _refuse(names: list[str], where: str) -> None:
    if names:
        raise ParameterError(f"{' and '.join(names)} belong{'s' if len(names) == 1 else ''} to {where}")


def _score(
    images: list[str], reference: Path, options: PairOptions, *, csv: Path | None, axes: str, overwrite: bool,
    as_json: bool, quiet: bool,
) -> None:  # fmt: skip
    """Results against references."""
    from napari_cellenhance.io.json_ready import json_ready
    from napari_cellenhance.workflows import measure_pair_files as files
    from napari_cellenhance.workflows.measure_pair_tables import to_markdown, write_csv

    request = files.PairFilesRequest(results=tuple(images), reference=reference, options=options, axes=axes)
    with ProgressLine(quiet) as line, stoppable() as is_cancelled:
        result = files.run(request, on_progress=line.show, is_cancelled=is_cancelled)
    if csv is not None and result.rows:
        write_csv(result.rows, result.record, csv, overwrite=overwrite)
    if as_json:
        print_json(json_ready({"rows": result.rows, "notes": result.notes, "failures": result.failures}))
    elif result.rows:
        typer.echo(to_markdown(result.rows))
    for note in () if quiet or as_json else result.notes:
        typer.echo(f"note: {note}", err=True)
    for failure in result.failures:
        complain(failure)
    leave(is_stopped=not result.is_complete, is_failed=bool(result.failures))


def _compare(
    images: list[str], *, mask: Path | None, csv: Path | None, diameter: float | None, axes: str, dark: bool,
    stretched: bool, overwrite: bool, as_json: bool, quiet: bool,
) -> None:  # fmt: skip
    """Enhanced images against the raw one."""
    from napari_cellenhance.io.json_ready import json_ready
    from napari_cellenhance.workflows import detect
    from napari_cellenhance.workflows import measure as contrast

    if len(images) < 2:
        raise ParameterError(
            "one image is not enough; name RAW and ENHANCED, or say with --reference, --labels or --points what to "
            "compare it with"
        )
    before = contrast.read_measured(images[0], axes=axes, objects_are_dark=dark)
    after = tuple(contrast.read_measured(path, axes=axes) for path in images[1:])
    objects = None if mask is None else contrast.read_measured(mask, axes=axes)
    if diameter is not None and objects is None:
        raise ParameterError("--diameter scores blobs against the objects of a mask; give one with --mask")
    request = contrast.CompareRequest(
        raw=before, enhanced=after, mask=objects, values="stretched" if stretched else "stored"
    )
    swept = None
    with ProgressLine(quiet) as line, stoppable() as is_cancelled:
        result = contrast.compare(request, on_progress=line.show, is_cancelled=is_cancelled)
        if diameter is not None and not is_cancelled():
            blobs = detect.DetectRequest(images=(before, *after), diameter_px=diameter, truth=objects)
            swept = detect.sweep(blobs, on_progress=line.show, is_cancelled=is_cancelled)
        is_stopped = is_cancelled()
    if csv is not None:
        contrast.write_csv(result, csv, overwrite=overwrite)
    scores: list[dict[str, Any]] = [] if swept is None else detect.best_rows(swept)
    if as_json:
        print_json(json_ready({"contrast": contrast.to_rows(result), "blobs": scores, "notes": list(result.notes)}))
    else:
        typer.echo(contrast.to_markdown(result))
        for row in scores:
            typer.echo(f"{row['layer']}: blob F1 {row['f1']:.3f} at its best threshold {row['threshold']:.3f}")
        if not quiet:
            for note in result.notes:
                typer.echo(f"note: {note}", err=True)
    leave(is_stopped=is_stopped)
