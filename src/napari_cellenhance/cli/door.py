"""What every command line goes through: errors become one line and an exit code, ``--debug`` tells more."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from napari_cellenhance.cli.table import LazyGroup
from napari_cellenhance.core.errors import AxesError, CellEnhanceError, ModelNotFoundError, ParameterError

__all__ = ["FAILED", "STOPPED", "WRONG_USAGE", "Debug", "Door", "complain"]

FAILED, WRONG_USAGE, STOPPED = 1, 2, 130


class Door(LazyGroup):
    """Turns the errors of this project, and those of the system about files, into one line."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; an error of a kind that a user can meet ends it with one line."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # the reader of our output went away, as in ``cellenhance models list | head -1``
        except (CellEnhanceError, OSError) as error:
            if ctx.obj is not None and ctx.obj.get("debug"):
                import traceback

                traceback.print_exc()
            complain(str(error) or type(error).__name__)
            is_usage = isinstance(error, (AxesError, ModelNotFoundError, ParameterError, FileNotFoundError))
            raise typer.Exit(WRONG_USAGE if is_usage else FAILED) from error


def complain(text: str) -> None:
    """Write an error, as one line; where it speaks of overwriting, it names the option."""
    typer.echo(f"error: {' '.join(text.split())}".replace("allow overwriting", "give --overwrite"), err=True)


def debug_on(ctx: typer.Context, is_on: bool) -> bool:
    root = ctx.find_root()
    root.obj = root.obj or {}
    if is_on:
        import logging

        root.obj["debug"] = True
        logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
        logging.getLogger("napari_cellenhance").setLevel(logging.DEBUG)
    return is_on


Debug = Annotated[bool, typer.Option("--debug", callback=debug_on, help="Show where in the program an error arose.")]
