"""``cellenhance --help`` answers at once: it knows the commands by a table and imports none of them."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

import napari_cellenhance.cli
from napari_cellenhance.cli import app
from napari_cellenhance.cli.table import COMMANDS, GROUPS, PROGRAM

Terminal = Callable[..., subprocess.CompletedProcess[str]]
FOLDER = Path(napari_cellenhance.cli.__file__).parent
SHARED = {"__init__", "door", "large", "options", "synthesis", "table", "words", "workers"}
HEAVY = ("torch", "numpy", "scipy", "skimage", "tifffile", "yaml", "rich", "napari", "qtpy")
WORDS = [(name,) if group == PROGRAM else (group, name) for group, lines in COMMANDS.items() for name in lines]


def command_of(words: tuple[str, ...]) -> Any:
    found = get_command(app)
    for word in words:
        found = found.commands[word]  # type: ignore[attr-defined]
    return found


@pytest.mark.parametrize("asked", [("--help",), (), ("--version",), ("train", "--help"), ("nothing-like-it",)])
def test_what_lists_the_commands_imports_none(terminal: Terminal, asked: tuple[str, ...]) -> None:
    is_word_read = bool(asked) and not asked[0].startswith("-")  # typer itself reads words with pydantic
    heavy = HEAVY if is_word_read else (*HEAVY, "pydantic")
    loaded = f"sorted(set(name.split('.')[0] for name in sys.modules) & set({heavy}))"
    rooms = "sorted({'.'.join(name.split('.')[1:3]) for name in sys.modules if name.startswith('napari_cellenhance.')})"
    last_words = f"import atexit, sys; atexit.register(lambda: print('loaded:', {loaded}, {rooms}))"
    ended = terminal(*asked, code=f"{last_words}\nfrom napari_cellenhance.cli import main; main()")
    told = ended.stdout.splitlines()[-1]
    assert told.startswith("loaded: [] "), told
    ours = set(ast.literal_eval(told.removeprefix("loaded: [] ")))
    assert ours <= {"_version", "cli", "cli.door", "cli.table", "core", "core.errors", "core.memory"}


def test_one_command_imports_no_other(terminal: Terminal) -> None:
    cli = "sorted(name for name in sys.modules if name.startswith('napari_cellenhance.cli.'))"
    last_words = f"import atexit, sys; atexit.register(lambda: print('loaded:', {cli}))"
    ended = terminal("doctor", "--help", code=f"{last_words}\nfrom napari_cellenhance.cli import main; main()")
    assert ended.returncode == 0, ended.stderr
    loaded = ast.literal_eval(ended.stdout.splitlines()[-1].removeprefix("loaded: "))
    assert {name.rsplit(".", 1)[1] for name in loaded} - SHARED == {"doctor"}


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_the_table_says_what_the_command_says(words: tuple[str, ...]) -> None:
    line = COMMANDS[words[0] if len(words) > 1 else PROGRAM][words[-1]]
    command = command_of(words)
    assert command.name == words[-1]
    assert " ".join(command.help.split("\n\n")[0].split()) == line
    page = CliRunner().invoke(app, [*words, "--help"])
    assert page.exit_code == 0
    assert page.output.startswith(f"Usage: cellenhance {' '.join(words)} ")


def test_every_file_is_a_command_or_shared() -> None:
    expected = {"models" if words[0] == "models" else "_".join(words) for words in WORDS}
    assert {path.stem for path in FOLDER.glob("*.py")} == expected | SHARED


def test_the_models_are_all_in_the_table() -> None:
    from napari_cellenhance.cli import models

    assert set(models.__all__) == {f"models_{name}" for name in COMMANDS["models"]}


def test_help_lists_the_commands_as_they_would_list_themselves() -> None:
    """The same text as a group whose commands are all there."""
    from typer.core import TyperGroup

    for words in ((), *((group,) for group in GROUPS)):
        group = command_of(words)
        whole = TyperGroup(name=group.name, commands=dict(group.commands), help=group.help, params=group.params)
        for width in (60, 80, 140):
            pages = []
            for one in (group, whole):
                with one.make_context("cellenhance", [], resilient_parsing=True, terminal_width=width) as ctx:
                    formatter = ctx.make_formatter()
                    one.format_commands(ctx, formatter)
                    pages.append(formatter.getvalue())
            assert pages[0] == pages[1]
            assert len(pages[0].splitlines()) > len(group.commands)


def test_a_wrong_word_is_told_what_is_near() -> None:
    for words, near in ((["enhanc"], "enhance"), (["train", "car"], "care"), (["model"], "models")):
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 2
        assert f"Did you mean '{near}'" in result.output


def test_a_table_can_be_added_to() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    with pytest.raises(KeyError):
        commands["nothing-like-it"]
    n_before = len(commands)
    commands["again"] = commands["demo"]
    assert len(commands) == n_before + 1
    assert list(commands)[-1] == "again"
    del commands["again"]
    assert len(commands) == n_before
