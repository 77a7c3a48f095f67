"""``cellenhance crops``: a library of crops for a semantic filter."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from napari_cellenhance.cli.words import (
    Debug,
    Json,
    ProgressLine,
    Quiet,
    complain,
    leave,
    parse_settings,
    print_json,
    stoppable,
)  # fmt: skip
from napari_cellenhance.core.crop_options import (
    BoxOptions,
    CutOptions,
    GroundOptions,
    KeepOptions,
    PointOptions,
    SegmentOptions,
)
from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.core.focus import FocusOptions
from napari_cellenhance.workflows.crop_files import CropFilesRequest
from napari_cellenhance.workflows.crops import CropOptions

__all__ = ["crops"]

# The one declaration of each default is in the requests; empty ones hand them over.
_OPTIONS = CropOptions()
_REQUEST = CropFilesRequest(images=("",), out="")
_FOCUS = FocusOptions()


def crops(
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGE…", help="Image file(s), a folder, or a pattern in quotes.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the library, made if missing.")],
    labels: Annotated[
        Path | None, typer.Option(help="Labels of the objects: a file, or a folder with equal names.")
    ] = None,
    painted: Annotated[
        Path | None, typer.Option(help="Painted classes instead: 0 not painted, 1 background, 2, 3, … objects.")
    ] = None,
    classes: Annotated[
        Path | None, typer.Option(help="With --labels: the class painted on each object, 0 for none.")
    ] = None,
    points: Annotated[
        list[str] | None,
        typer.Option(metavar="CLASS=CSV", help="Points on objects of a class; can be given again."),
    ] = None,
    boxes: Annotated[
        Path | None, typer.Option(help="CSV of boxes around objects to keep, or a folder of them.")
    ] = None,
    unwanted_boxes: Annotated[Path | None, typer.Option(help="CSV of boxes around other objects.")] = None,
    segment: Annotated[
        Literal["otsu", "log-otsu", "local"] | None, typer.Option(help="Find objects by a threshold.")
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(help="Class to keep: a number, can be given again; of points a name. [default: the first]"),
    ] = None,
    unwanted: Annotated[
        bool, typer.Option("--unwanted", help="All objects of these images are of the other kind.")
    ] = _OPTIONS.is_unwanted,
    focus: Annotated[
        Literal["log", "laplacian"] | None,
        typer.Option(help="Keep sharp objects, by the Laplacian of Gaussian or a 3×3 Laplacian; blurred are unwanted."),
    ] = None,
    low: Annotated[float | None, typer.Option(help="With --focus: so much is blurred. [default: proposed]")] = None,
    high: Annotated[float | None, typer.Option(help="With --focus: so much is sharp. [default: proposed]")] = None,
    sigma: Annotated[float, typer.Option(help="With --focus log: σ, in pixels.")] = _FOCUS.sigma_px,
    medians: Annotated[int, typer.Option(min=0, help="With --focus: 5×5 medians before.")] = _FOCUS.n_medians,
    min_area: Annotated[int, typer.Option(min=0, help="Of an object, in pixels.")] = _OPTIONS.cut.keep.min_area_px,
    max_area: Annotated[int, typer.Option(min=0, help="Of an object, in pixels; 0: any.")] = (
        _OPTIONS.cut.keep.max_area_px
    ),
    border: Annotated[
        bool, typer.Option("--border/--no-border", help="Keep objects that the edge of the image cuts.")
    ] = not _OPTIONS.cut.keep.drop_border,
    partial: Annotated[
        bool, typer.Option("--partial/--complete", help="With --labels: not every object has one.")
    ] = not _OPTIONS.is_complete,
    tracked: Annotated[
        bool, typer.Option("--tracked", help="With --labels of a movie: a number is one cell in all frames.")
    ] = _OPTIONS.is_tracked,
    dark: Annotated[
        bool, typer.Option("--dark/--bright", help="Objects are dark, as in bright field.")
    ] = _OPTIONS.cut.is_dark,
    colour: Annotated[bool, typer.Option("--colour", help="Keep colours, or all channels.")] = False,
    channel: Annotated[
        int | None, typer.Option(min=0, help="Take this channel, counted from 0. [default: grey]")
    ] = None,
    axes: Annotated[str, typer.Option(help="Letters of TCZYX, S for colour. [default: as in each file]")] = (
        _REQUEST.axes
    ),
    seed: Annotated[int, typer.Option(min=0, help="Of the random squares beside boxes.")] = _OPTIONS.seed,
    more: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Finer: ground_offset, boxes_n_squares, points_sigma_px …"),
    ] = None,
    add: Annotated[bool, typer.Option("--add", help="Add to the library that is there.")] = _REQUEST.is_added,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the library that is there.")
    ] = _REQUEST.overwrite,
    sheet: Annotated[bool, typer.Option("--sheet/--no-sheet", help="Draw a contact sheet, crops.png.")] = (
        _REQUEST.has_sheet
    ),
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Cut objects out of images, as a folder of TIFFs: what to keep, what not, and the rest with a reason.

    One of --labels, --painted, --points, --boxes and --segment says where objects are. Move a file to another folder
    to change its class.
    """
    from napari_cellenhance.io.json_ready import json_ready
    from napari_cellenhance.workflows.crop_files import run

    ways: dict[str, Any] = {
        "labels": labels, "painted": painted, "segment": segment, "points": points, "boxes": boxes or unwanted_boxes,
    }  # fmt: skip
    asked = [way for way, given in ways.items() if given]
    if len(asked) != 1:
        raise ParameterError(
            f"{'nothing says' if not asked else ' and '.join(f'--{way}' for way in asked) + ' say'} where objects are; "
            "give one of --labels, --painted, --points, --boxes and --segment"
        )
    if colour and channel is not None:
        raise ParameterError("--colour and --channel were given together; choose one of both")
    if focus is None and (low is not None or high is not None):
        raise ParameterError("--low and --high belong to --focus")
    by_class = _points(points or [])
    kept = tuple(target or ()) or tuple(by_class)[:1]
    cut = CutOptions(
        is_dark=dark,
        keep=KeepOptions(min_area_px=min_area, max_area_px=max_area, drop_border=not border),
        focus=None if focus is None else FocusOptions(
            method=focus, sigma_px=sigma, n_medians=medians, low=low, high=high
        ),
    )  # fmt: skip
    options = _refined(
        {
            "way": asked[0], "target": kept, "is_unwanted": unwanted, "is_complete": not partial,
            "is_tracked": tracked, "cut": cut, "seed": seed,
        },
        segment, more or [],
    )  # fmt: skip
    request = CropFilesRequest(
        images=tuple(images), out=out, labels=labels or painted, classes=classes, points=by_class,
        boxes=boxes, unwanted_boxes=unwanted_boxes, axes=axes,
        channels="colour" if colour else "grey" if channel is None else (channel,), options=options, is_added=add,
        overwrite=overwrite, has_sheet=sheet,
    )  # fmt: skip
    with ProgressLine(quiet) as line, stoppable() as is_cancelled:
        result = run(request, on_progress=line.show, is_cancelled=is_cancelled)
    if not result.found.is_complete:
        complain("stopped; nothing was written")
        leave(is_stopped=True)
    if as_json:
        print_json(json_ready({"folder": str(result.folder), "in_folder": result.counts, "notes": result.notes,
                               "found": result.found.record}))  # fmt: skip
    elif not quiet:
        _tell(result)
    for note in () if quiet or as_json else result.notes:
        typer.echo(f"note: {note}", err=True)


def _points(words: list[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for word in words:
        name, is_given, path = word.partition("=")
        if not (is_given and name and path):
            raise ParameterError(f"--points is {word!r}; expected CLASS=FILE, such as dividing=dividing.csv")
        if name in found:
            raise ParameterError(f"the points of {name!r} were given twice; put them into one file")
        found[name] = Path(path)
    return found


def _refined(fields: dict[str, Any], segment: str | None, words: list[str]) -> CropOptions:
    """Options with the finer settings of ``--set``, whose first word says what they belong to."""
    parts: dict[str, dict[str, Any]] = {"ground": {}, "segment": {}, "points": {}, "boxes": {}}
    if segment is not None:
        parts["segment"]["method"] = segment.replace("-", "_")
    for name, value in parse_settings(words).items():
        part, _, setting = name.partition("_")
        known: dict[str, GroundOptions | SegmentOptions | PointOptions | BoxOptions] = {
            "ground": GroundOptions(), "segment": _OPTIONS.segment, "points": _OPTIONS.points, "boxes": _OPTIONS.boxes,
        }  # fmt: skip
        names = [f.name for f in dataclasses.fields(known[part])] if part in known else []
        if setting not in names:
            every = [f"{key}_{f.name}" for key, one in known.items() for f in dataclasses.fields(one)]
            raise ParameterError(f"there is no setting {name}; there are {', '.join(every)}")
        parts[part][setting] = value
    for part in ("segment", "points", "boxes"):
        fields[part] = dataclasses.replace(getattr(_OPTIONS, part), **parts[part])
    if parts["ground"]:
        fields["cut"] = dataclasses.replace(fields["cut"], ground=GroundOptions(**parts["ground"]))
    return CropOptions(**fields)


def _tell(result: Any) -> None:
    counts = result.counts
    typer.echo(
        f"{result.folder}: {counts['target']} to keep, {counts['unwanted']} unwanted, {counts['discarded']} left out, "
        f"{len(result.collection.backgrounds)} backgrounds"
    )
    for reason, n in result.found.collection.discarded_because().items():
        typer.echo(f"  left out, {reason}: {n}")
    if result.found.thresholds is not None:
        low, high = result.found.thresholds
        curve = result.found.score_curve
        typer.echo(
            f"  focus scores {curve[0]:.3g}…{curve[-1]:.3g}: blurred up to {low:.4g}, sharp from {high:.4g}; "
            "--low and --high move them"
        )
