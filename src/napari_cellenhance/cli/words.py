"""Words, options and manners that the commands share: one line per error, progress, Ctrl-C."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import typer

from napari_cellenhance.cli.door import FAILED, STOPPED, WRONG_USAGE, Debug, complain
from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.workflows.progress import Progress
from napari_cellenhance.workflows.requests import NOT_QUANTITATIVE, SegmentOptions

if TYPE_CHECKING:
    from napari_cellenhance.workflows._file_loop import FileOutcome

__all__ = [
    "FAILED",
    "STOPPED",
    "WRONG_USAGE",
    "Debug",
    "Device",
    "Json",
    "Precision",
    "ProgressLine",
    "Quiet",
    "complain",
    "describe",
    "leave",
    "parse_channels",
    "parse_segment",
    "parse_settings",
    "parse_strength",
    "parse_whole",
    "parse_words",
    "print_json",
    "remind",
    "stoppable",
    "tell_outcome",
]

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for other programs.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N, mps or openvino.")]
Precision = Annotated[
    Literal["auto", "float32", "bfloat16"], typer.Option(help="auto takes bfloat16 where the processor is fast at it.")
]


def parse_channels(text: str) -> Literal["all", "grey"] | tuple[int, ...]:
    """Read ``all``, ``grey`` or ``0,2``.

    >>> parse_channels("0, 2")
    (0, 2)
    """
    if text in ("all", "grey"):
        return "all" if text == "all" else "grey"
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ParameterError(f"channels are {text!r}; expected all, grey, or numbers such as 0,2") from None


def parse_words(text: str) -> tuple[str, ...]:
    """Read words between commas.

    >>> parse_words("as acquired, noise")
    ('as acquired', 'noise')
    """
    return tuple(word.strip() for word in text.split(",") if word.strip())


def parse_whole(text: str, option: str) -> tuple[int, ...]:
    """Read whole numbers between commas.

    >>> parse_whole("0, 2", "--seeds")
    (0, 2)
    """
    try:
        return tuple(int(word) for word in parse_words(text))
    except ValueError:
        raise ParameterError(f"{option} is {text!r}; expected whole numbers between commas, such as 0,1,2") from None


def parse_settings(words: list[str]) -> dict[str, Any]:
    """Read ``NAME=VALUE``; values are numbers, true, false, lists in [], or plain words.

    >>> parse_settings(["crop_px=64", "name=a b"])
    {'crop_px': 64, 'name': 'a b'}
    """
    settings: dict[str, Any] = {}
    for word in words:
        name, is_given, value = word.partition("=")
        if not (is_given and name.isidentifier()):
            raise ParameterError(f"--set is {word!r}; expected NAME=VALUE")
        try:
            read = json.loads(value)
        except (ValueError, RecursionError):
            read = value
        settings[name] = tuple(read) if isinstance(read, list) else read
    return settings


def parse_strength(text: str | None) -> float | Literal["auto"] | None:
    """Read a number or ``auto``.

    >>> parse_strength("auto"), parse_strength("7.5")
    ('auto', 7.5)
    """
    if text is None or text == "auto":
        return "auto" if text else None
    try:
        return float(text)
    except ValueError:
        raise ParameterError(f"strength is {text!r}; expected a number, or auto") from None


def parse_segment(threshold: str, split: bool, min_size: int) -> SegmentOptions:
    """Read ``otsu``, ``li`` or a number."""
    if threshold in ("otsu", "li"):
        method: Literal["otsu", "li"] = "otsu" if threshold == "otsu" else "li"
        return SegmentOptions(method=method, split_touching=split, min_size_px=min_size)
    try:
        value = float(threshold)
    except ValueError:
        raise ParameterError(f"threshold is {threshold!r}; expected otsu, li, or a number from 0 to 1") from None
    return SegmentOptions(method="manual", threshold=value, split_touching=split, min_size_px=min_size)


# --- speaking to a person -------------------------------------------------------------------


class ProgressLine:
    """One line that is written over and over; silent where nobody watches."""

    def __init__(self, is_quiet: bool) -> None:
        self._is_shown = not is_quiet and sys.stderr.isatty()
        self._n_written = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.clear()

    def show(self, progress: Progress) -> None:
        """Write it over the line before."""
        if not self._is_shown:
            return
        # One column less: a full line makes some terminals go to the next.
        text = describe(progress)[: shutil.get_terminal_size().columns - 1]
        typer.echo(f"\r{text:<{self._n_written}}", err=True, nl=False)
        self._n_written = len(text)

    def clear(self) -> None:
        """Wipe the line."""
        if self._n_written:
            typer.echo(f"\r{'':<{self._n_written}}\r", err=True, nl=False)
            self._n_written = 0


def describe(progress: Progress) -> str:
    """Progress as one line.

    >>> describe(Progress(n_done=1, n_total=4, message="cells.tif", eta_s=75))
    '[ 25%] cells.tif, 1:15 left'
    """
    share = f"[{100 * progress.n_done // progress.n_total:3d}%] " if progress.n_total else ""
    if progress.eta_s is None:
        return f"{share}{progress.message}"
    minutes, seconds = divmod(round(progress.eta_s), 60)
    left = f"{minutes}:{seconds:02d}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
    return f"{share}{progress.message}, {left} left"


@contextmanager
def stoppable() -> Iterator[Callable[[], bool]]:
    """Ctrl-C asks the workflow to stop cleanly; a second one ends the program at once."""
    is_stopped = False

    def stop(number: int, frame: object) -> None:
        nonlocal is_stopped
        if is_stopped:
            raise KeyboardInterrupt
        is_stopped = True

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield lambda: is_stopped
    finally:
        signal.signal(signal.SIGINT, before)


def print_json(data: Any) -> None:
    """Write JSON to the standard output."""
    typer.echo(json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False))


def leave(*, is_stopped: bool = False, is_failed: bool = False) -> None:
    """End the program with the exit code that says how it went."""
    if is_stopped:
        complain("stopped; finished results were kept")
        raise typer.Exit(STOPPED)
    if is_failed:
        raise typer.Exit(FAILED)


def remind(outcomes: Sequence[FileOutcome], is_quiet: bool) -> None:
    """Say once what results are not for, if there are any."""
    if not is_quiet and any(outcome.is_done for outcome in outcomes):
        typer.echo(f"note: {NOT_QUANTITATIVE}")


def tell_outcome(outcome: FileOutcome, is_quiet: bool) -> None:
    """Write what became of one file: results and notes, or the error."""
    if not outcome.is_done:
        is_named = str(outcome.source) in outcome.error
        complain(outcome.error if is_named else f"{outcome.source}: {outcome.error}")
    elif not is_quiet:
        for warning in outcome.warnings:
            typer.echo(f"note: {outcome.source.name}: {warning}", err=True)
        typer.echo(f"{', '.join(map(str, outcome.targets))} ({outcome.seconds:.1f} s)")
