"""Options that several commands have, each with its one explanation; defaults are those of the requests."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

__all__ = [
    "ArePairs",
    "Average",
    "AxesInFile",
    "AxesInFiles",
    "Blocks",
    "CareData",
    "Channels",
    "Chunk",
    "CropsPerUpdate",
    "DataRoot",
    "Depth",
    "FinerSettings",
    "Install",
    "KeepWeights",
    "LabelledData",
    "LearningRate",
    "MemoryLimit",
    "ModelId",
    "OmeZarr",
    "Overwrite",
    "OverwriteFiles",
    "OwnDropout",
    "Patch",
    "PatchesPerUpdate",
    "Patience",
    "PixelSize",
    "PixelType",
    "PlaneOfStacks",
    "Report",
    "ResultFolder",
    "Resume",
    "RunFolder",
    "Schedule",
    "Seed",
    "Sources",
    "Statistics",
    "Steps",
    "StepsOfEach",
    "StopAfter",
    "Target",
    "Tile",
    "TimeLimit",
    "Title",
    "TrainDevice",
    "ValidateEvery",
    "Width",
]

ArePairs = Annotated[
    bool, typer.Option("--pairs", help="DATA is a folder with noisy/ and clean/, or a JSON list of pairs.")
]
Average = Annotated[float, typer.Option(help="Decay of the running average of the weights; 0: none.")]
AxesInFile = Annotated[str, typer.Option(help="Letters of TCZYX, S for colour. [default: as in the file]")]
AxesInFiles = Annotated[str, typer.Option(help="Of all images, such as ZYX. [default: as in the files]")]
Blocks = Annotated[
    bool, typer.Option("--blocks", help="Block by block, as for .ome.zarr; for TIFFs larger than the memory.")
]
CareData = Annotated[Path, typer.Argument(help="Clean images: a file, a folder or a JSON list; see --pairs.")]
Channels = Annotated[str, typer.Option(help="all, grey, or numbers counted from 0, e.g. 0,2.")]
Chunk = Annotated[int | None, typer.Option(help="For .ome.zarr: side of a chunk, in pixels. [default: 512]")]
CropsPerUpdate = Annotated[int, typer.Option(min=1, help="Crops per update.")]
DataRoot = Annotated[Path | None, typer.Option(help="What the paths in the JSON are relative to.")]
Depth = Annotated[int, typer.Option(min=1, help="Times that the network halves the resolution.")]
FinerSettings = Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A finer setting.")]
Install = Annotated[bool, typer.Option(help="List the model with the others when it is done.")]
KeepWeights = Annotated[Literal["best", "last"], typer.Option(help="Weights to keep, by validation.")]
LabelledData = Annotated[
    list[Path], typer.Argument(help="JSON list(s) of labelled images, or folders of images and labels or masks.")
]
LearningRate = Annotated[float, typer.Option(help="Of Adam; 0: 4e-4.")]
MemoryLimit = Annotated[
    int, typer.Option(min=100, metavar="MB", help="For .ome.zarr: memory of the whole program to keep to.")
]
ModelId = Annotated[str, typer.Option("--id", help="Name of the model in files and commands.")]
PixelSize = Annotated[
    float | None, typer.Option(help="Side of a pixel in µm, where the files do not tell it.", min=0.0)
]
PixelType = Annotated[
    Literal["float32", "same"], typer.Option(help="Pixel type of images: float32, or that of the file, rounded.")
]
PlaneOfStacks = Annotated[str, typer.Option(help="T,C,Z of the plane of stacks, from 0.")]
OmeZarr = Annotated[Literal["0.4", "0.5"], typer.Option(help="For .ome.zarr: version of the format.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace results that are there already.")]
OverwriteFiles = Annotated[bool, typer.Option("--overwrite", help="Replace files that are there already.")]
Patch = Annotated[int, typer.Option(min=8, help="Side of a patch, in pixels.")]
OwnDropout = Annotated[
    float | None,
    typer.Option(
        "--dropout", min=0, max=0.9,
        help="While training; 0.5 is published, for trainings of hours.  [default: 0.1, from a model the model's]",
    ),
]  # fmt: skip
PatchesPerUpdate = Annotated[int, typer.Option(min=1, help="Patches per update.")]
Patience = Annotated[int, typer.Option(min=0, help="Stop after so many validations without gain; 0: never.")]
Report = Annotated[Path | None, typer.Option(help="Write what became of each file to this JSON file.")]
ResultFolder = Annotated[
    Path, typer.Option(metavar="FOLDER", help="Results; made if missing. What is there already is not computed again.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in the folder.")]
RunFolder = Annotated[Path, typer.Option(help="Folder for weights, card and curves; made if missing.")]
Schedule = Annotated[Literal["plateau", "cosine", "constant"], typer.Option(help="Of the learning rate.")]
Seed = Annotated[int, typer.Option(min=0, help="Of all random numbers.")]
Sources = Annotated[
    list[str], typer.Argument(metavar="IN", help="TIFF, PNG or OME-Zarr file(s), a folder, or a pattern in quotes.")
]
Statistics = Annotated[
    Literal["plane", "stack"], typer.Option(help="Normalise each plane, or the whole stack alike (no flicker).")
]
Steps = Annotated[int, typer.Option(min=0, help="Updates; 0 takes as many as fit into --time.")]
StepsOfEach = Annotated[int, typer.Option(min=1, help="Updates of each training.")]
StopAfter = Annotated[int, typer.Option(min=0, help="End early, at this update of the schedule; 0: never.")]
Target = Annotated[
    str, typer.Argument(metavar="OUT", help="File (.ome.tif, .tif), a folder, or .ome.zarr for a large image.")
]
Tile = Annotated[int | None, typer.Option(min=8, help="Side of a tile, in pixels.")]
TimeLimit = Annotated[float, typer.Option(min=0, help="With --steps 0: seconds the training may take.")]
Title = Annotated[str, typer.Option(help="Name of the model as people read it.")]
TrainDevice = Annotated[str, typer.Option(help="Where to train: cpu, cuda or auto.")]
ValidateEvery = Annotated[int, typer.Option(min=1, help="Updates between validations.")]
Width = Annotated[int, typer.Option(min=1, help="Maps at full resolution.")]
