"""The terminal door: ``cellenhance …``. Translates words to requests, and results to lines and exit codes.

Exit codes: 0 all fine, 1 something failed, 2 wrong usage, 130 stopped with Ctrl-C.
Results go to the standard output; progress, notes and errors (one line each) to the standard error.
A command is in the file of its name and is imported when it is called; `cli.table` lists them all.
The one declaration of each default is in the requests of `workflows`; an empty one hands them over.
"""

from __future__ import annotations

from typing import Annotated

import typer

from napari_cellenhance.cli.door import Debug, Door
from napari_cellenhance.cli.table import GROUPS, PROGRAM, SETTINGS, LazyGroup

__all__ = ["app", "main"]

app = typer.Typer(
    name=PROGRAM, cls=Door, pretty_exceptions_enable=False, add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]}, **SETTINGS,
)  # fmt: skip
for _name, _help in GROUPS.items():
    app.add_typer(typer.Typer(help=_help, cls=LazyGroup, **SETTINGS), name=_name)


def main() -> None:
    """Entry point of the command ``cellenhance``."""
    app()


def _print_version(is_asked: bool) -> None:
    if is_asked:
        from napari_cellenhance import __version__

        typer.echo(f"cellenhance {__version__}")
        raise typer.Exit


@app.callback()
def _cellenhance(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Enhance microscopy images: objects bright, ground dark, with a strength to choose."""
    import logging

    from napari_cellenhance.core.memory import keep_memory

    # It logs what is odd in a damaged file, which would stand beside our one line on it; --debug shows it.
    logging.getLogger("tifffile").addHandler(logging.NullHandler())
    keep_memory()
