"""Every command with its one line, so that ``cellenhance --help`` need not import any of them.

The lines are the first sentences of the commands' own docstrings; a test compares them. Where a command is follows
from its words: ``cellenhance train care`` is the function ``train_care`` in ``cli/train_care.py``, and the commands of
``cellenhance models`` are together in ``cli/models.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

__all__ = ["COMMANDS", "GROUPS", "PROGRAM", "SETTINGS", "LazyCommands", "LazyGroup"]

PROGRAM = "cellenhance"
SETTINGS: dict[str, Any] = {"rich_markup_mode": None, "no_args_is_help": True}
"""Of every group: plain help, which is also what no word at all prints."""

GROUPS = {
    "models": "List, show and fetch the filters.",
    "train": "Train a network on your own images.",
    "search": "Find good settings for a training.",
    "evaluate": "Score filters on labelled images.",
}
COMMANDS: dict[str, dict[str, str]] = {
    "cellenhance": {
        "batch": "Apply one recipe to many images; a second run does only what is missing or has changed.",
        "run": "Repeat all steps of a recipe, or of a result, on an image or on many.",
        "segment": "Segment an image file, or all images of a folder, with a model that learned it.",
        "denoise": "Denoise an image file, or all images of a folder; grey values keep their meaning.",
        "restore": "Restore an image file, or all images of a folder, with an uncertainty for every pixel.",
        "separate": "Take images apart: the wanted kind of object, or what moves, goes to OUT.",
        "synthesize": "Make pairs of poor and clean images from clean ones; every drawn value is logged.",
        "measure": "Compare enhanced images with the raw one, or results with references.",
        "objects": "Measure the objects of labels, however large the image is.",
        "profile": "Read grey values of images along one line: peaks, widths, and how they compare with a reference.",
        "crops": "Cut objects out of images, as a folder of TIFFs: what to keep, what not, and the rest with a reason.",
        "compare": "Tell two conditions apart: means, Z-factor, and p-values by Mann-Whitney and by Welch's t-test.",
        "check": (
            "Check whether a result is true to its image: structure in the difference, objects in one only, and more."
        ),
        "figure": "Draw images before and after beside each other: scale bar, grey values, and how each was made.",
        "resolution": "Tell the resolution by Fourier ring correlation (threshold 1/7), in px and µm.",
        "enhance": "Enhance an image file, or all images of a folder.",
        "persistence": "Show how long each object lasts while the strength rises, to tell faint cells from noise.",
        "doctor": "Check this computer, and enhance a test image.",
        "demo": "Enhance a bundled image, to see what it does.",
    },
    "models": {
        "list": "List all filters: trained networks and classical ones.",
        "show": "Show all that is known about one filter.",
        "fetch": "Download the weights of a model, unless they are here already, and verify them.",
        "rename": "Give a model of your own another name.",
        "export": "Copy a model of your own, or write any model as a package that other programs can run.",
        "delete": "Remove a model of your own, and the folder of its training.",
        "import": (
            "Import models: those that the authors of NU-Net publish, packages of the BioImage Model Zoo, "
            "exported ones."
        ),
    },
    "train": {
        "aep": "Train AEP + AWEL on labels or strokes; Ctrl-C stops and keeps the best weights so far.",
        "voidseg": "Train VoidSeg or StarDist on few labelled objects; Ctrl-C stops and keeps the best weights so far.",
        "n2v": "Train a denoiser on noisy images alone; Ctrl-C stops and keeps the best weights so far.",
        "care": (
            "Train a restoration on clean images alone, or on real pairs; Ctrl-C stops and keeps the best "
            "weights so far."
        ),
        "semantic": (
            "Train a filter that keeps one kind of object, from crops; or one that removes what moves, from a movie."
        ),
        "nunet": "Train a NU-Net; Ctrl-C stops and keeps the best weights so far.",
    },
    "search": {
        "care": (
            "Train with every combination of some settings and put the errors in a table; what is done is "
            "not done again."
        ),
    },
    "evaluate": {
        "aep": (
            "Cross-validate AEP + AWEL beside a U-Net and classical filters, as in its paper; Ctrl-C keeps "
            "what is done."
        ),
        "paint": (
            "Score how good a segmentation is after how many seconds of learning from strokes; Ctrl-C keeps "
            "what is done."
        ),
        "n2v": (
            "Score denoisers that learn from the noisy images alone, beside classical filters; clean ones only score."
        ),
        "care": (
            "Score restorations on pairs, beside classical filters, deconvolution and denoisers; nothing learns here."
        ),
        "voidseg": (
            "Score the schemes of VoidSeg on noisy images with few labels, as in its paper; Ctrl-C keeps what is done."
        ),
        "semantic": "Score the semantic filter where the truth is exact, beside other ways; Ctrl-C keeps what is done.",
        "nunet": "Contrast, detection and segmentation with each filter beside the raw image, as in the NU-Net paper.",
    },
}


class LazyCommands(MutableMapping[str, Any]):
    """Commands of a group by name; the module of one is imported when it is asked for.

    Parameters
    ----------
    group : str
        Key of `COMMANDS`.
    ready : dict
        Commands and groups that are there already; they come last.
    """

    def __init__(self, group: str, ready: dict[str, Any]) -> None:
        self.lines = COMMANDS[group]
        self._group = group
        self._ready = dict(ready)

    def __getitem__(self, name: str) -> Any:
        if name not in self._ready:
            if name not in self.lines:
                raise KeyError(name)
            self._ready[name] = _load(self._group, name)
        return self._ready[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._ready[name] = command

    def __delitem__(self, name: str) -> None:
        del self._ready[name]

    def __iter__(self) -> Iterator[str]:
        return iter({**self.lines, **self._ready})

    def __len__(self) -> int:
        return len({**self.lines, **self._ready})

    def listed(self) -> dict[str, Any]:
        """What the help lists: a name and a line of each command, none of them imported."""
        return {name: TyperCommand(name, help=self.lines[name]) if name in self.lines else self[name] for name in self}


def _load(group: str, name: str) -> Any:
    function = name if group == PROGRAM else f"{group}_{name}"
    module = import_module(f"napari_cellenhance.cli.{'models' if group == 'models' else function}")
    one = typer.Typer(add_completion=False, **SETTINGS)
    one.command(name)(getattr(module, function))
    return get_command(one)


class LazyGroup(TyperGroup):
    """A group that knows its commands by `COMMANDS`."""

    def __init__(self, *, name: str, commands: dict[str, Any], **settings: Any) -> None:
        super().__init__(name=name, **settings)
        self.commands = self._known = LazyCommands(name, commands)

    def list_commands(self, ctx: Any) -> list[str]:
        """Names, in the order of the table."""
        return list(self.commands)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list of commands below the help."""
        TyperGroup(name=self.name, commands=self._known.listed()).format_commands(ctx, formatter)
