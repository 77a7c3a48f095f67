"""``cellenhance models …``: list, show, fetch, rename, export, delete and import filters."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from napari_cellenhance.cli.words import Debug, Json, ProgressLine, Quiet, leave, print_json, stoppable

__all__ = [
    "models_delete",
    "models_export",
    "models_fetch",
    "models_import",
    "models_list",
    "models_rename",
    "models_show",
]

_LONGEST = 400
"""Characters of one value that ``models show`` prints."""


def models_list(as_json: Json = False) -> None:
    """List all filters: trained networks and classical ones."""
    from napari_cellenhance.workflows import models as shelf

    shelf_cards = shelf.list_all()
    if as_json:
        print_json([card.summary() for card in shelf_cards])
        return
    for card in shelf_cards:
        info = card.info
        reach = f"{info.strength.minimum:g}…{info.strength.maximum:g}"
        typer.echo(f"{info.id:<20} {info.group:<10} {reach:>9}  {card.state:<14} {info.title}")


def models_show(model_id: Annotated[str, typer.Argument(metavar="ID")], as_json: Json = False) -> None:
    """Show all that is known about one filter."""
    from napari_cellenhance.workflows import models as shelf

    details = shelf.find(model_id).details()
    if as_json:
        print_json(details)
        return
    for key, value in _flat(details):
        typer.echo(f"{key + ':':<28} {_brief(value)}")


def _flat(details: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Name and text of every entry that is not empty; nested names are joined by dots.

    >>> list(_flat({"a": {"b": 1.5, "c": ""}, "d": [1, 2]}))
    [('a.b', '1.5'), ('d', '[1, 2]')]
    """
    for key, value in details.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        elif value not in ("", None, []):
            yield prefix + key, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _brief(value: str) -> str:
    """What fits on a few lines of a terminal; of a long value its beginning, and where all of it is.

    >>> _brief("dog")
    'dog'
    """
    if len(value) <= _LONGEST:
        return value
    return f"{value[:_LONGEST].rstrip()} … ({len(value):,} characters; --json shows all)"


def models_fetch(
    model_id: Annotated[str, typer.Argument(metavar="ID")],
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Download the weights of a model, unless they are here already, and verify them."""
    from napari_cellenhance.workflows import models as shelf

    line = ProgressLine(quiet)
    with line, stoppable() as is_cancelled:
        path = shelf.fetch(model_id, on_progress=line.show, is_cancelled=is_cancelled)
    if path is None:
        leave(is_stopped=True)
    elif as_json:
        print_json({"id": model_id, "path": str(path)})
    elif not quiet:
        typer.echo(f"{model_id} is ready: {path}")


def models_rename(
    model_id: Annotated[str, typer.Argument(metavar="ID")],
    title: Annotated[str, typer.Argument(help="Name of the model as people read it; its id stays.")],
    debug: Debug = False,
) -> None:
    """Give a model of your own another name."""
    from napari_cellenhance.workflows import own_models

    card = own_models.rename(model_id, title)
    typer.echo(f"{card.id} is now called “{card.title}”")


def models_export(
    model_id: Annotated[str, typer.Argument(metavar="ID")],
    folder: Annotated[Path, typer.Argument(help="Folder that the files are written to.")],
    bioimageio: Annotated[
        bool, typer.Option("--bioimageio", help="Write a package of the BioImage Model Zoo instead; of any model.")
    ] = False,
    strength: Annotated[float | None, typer.Option(help="Of a package: where the slider stands for good.")] = None,
    debug: Debug = False,
) -> None:
    """Copy a model of your own, or write any model as a package that other programs can run."""
    if bioimageio:
        from napari_cellenhance.workflows.bioimageio import export_bioimageio

        typer.echo(str(export_bioimageio(model_id, folder, strength=strength)))
        return
    from napari_cellenhance.workflows import own_models

    for path in own_models.export(model_id, folder):
        typer.echo(str(path))


def models_delete(model_id: Annotated[str, typer.Argument(metavar="ID")], debug: Debug = False) -> None:
    """Remove a model of your own, and the folder of its training."""
    from napari_cellenhance.workflows import own_models

    own_models.delete(model_id)
    typer.echo(f"{model_id} is deleted")


def models_import(
    archive: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="Archive of the authors of NU-Net, package of the BioImage Model Zoo, or card of an exported model.",
        ),
    ],
    model_id: Annotated[str | None, typer.Option("--id", help="Name of the model in files and commands.")] = None,
    channel: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Of a package: which channel of its result is shown; all of one that gives as many as it takes.",
        ),
    ] = None,
    trust_torchscript: Annotated[
        bool,
        typer.Option(
            "--trust-torchscript",
            help="Of a package: its weights may be a program, which can read and write files as you can.",
        ),
    ] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Import models: those that the authors of NU-Net publish, packages of the BioImage Model Zoo, exported ones."""
    from napari_cellenhance.workflows import models as shelf
    from napari_cellenhance.zoo.bioimageio_import import TrustError

    try:
        imported = shelf.import_file(archive, model_id=model_id, channel=channel, trust_torchscript=trust_torchscript)
    except TrustError as error:
        raise TrustError(f"{error} Then add --trust-torchscript.") from error
    if as_json:
        print_json([card.summary() for card in imported])
        return
    for card in imported:
        knots = ", ".join(f"{knot:g}" for knot in card.info.strength.knots)
        told = f", trained for the strengths {knots}" if len(card.info.strength.knots) > 1 else ""
        typer.echo(f"{card.info.id} is ready: {card.info.title}{told}")
