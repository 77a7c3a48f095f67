"""Damaged and hostile files: every parser answers with a value or with an error of this program, and nothing else."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import random
import subprocess
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import safetensors.torch
import tifffile
import torch

from napari_cellenhance.cli.synthesis import _read_levels
from napari_cellenhance.core.crop_library import CropLibrary, FoundObject
from napari_cellenhance.core.crops import ObjectCrop
from napari_cellenhance.core.errors import CellEnhanceError
from napari_cellenhance.io.boxes import read_boxes
from napari_cellenhance.io.crop_folders import RECORD, TABLE, read_library, write_crops
from napari_cellenhance.io.datasets import read_sources
from napari_cellenhance.io.images import read, write
from napari_cellenhance.io.labelled import read_labelled
from napari_cellenhance.io.lazy_images import open_lazily
from napari_cellenhance.io.ome_zarr import create_store
from napari_cellenhance.io.pairs import read_pairs
from napari_cellenhance.io.points import read_points
from napari_cellenhance.io.run_journal import RunJournal
from napari_cellenhance.io.tables import read_column
from napari_cellenhance.widgets._settings import PluginSettings, settings_from
from napari_cellenhance.workflows._batch_journal import NAME as BATCH_JOURNAL
from napari_cellenhance.workflows._batch_journal import Journal
from napari_cellenhance.workflows._evaluate_semantic_data import read_spec
from napari_cellenhance.workflows._settings_file import SETTINGS, recall
from napari_cellenhance.workflows.batch_recipe import read_recipe
from napari_cellenhance.workflows.crop_files import read_steps
from napari_cellenhance.workflows.noisy_images import read_files
from napari_cellenhance.workflows.painted_files import read_painted_files
from napari_cellenhance.zoo.bioimageio_package import read_package
from napari_cellenhance.zoo.import_official import open_checkpoint
from napari_cellenhance.zoo.manifest import manifest_path, read_manifest, read_user_card
from napari_cellenhance.zoo.official_archive import read_archive
from napari_cellenhance.zoo.weights import load_card_file, load_state, read_metadata, save_user_model

ROOT = Path(__file__).parents[1]
N_MUTATIONS = 100

# --- mutations -------------------------------------------------------------------------------

_DEEP: Any = None
for _ in range(60):
    _DEEP = [{"a": _DEEP}]
ODD: tuple[Any, ...] = (
    None, True, "", "x", "NaN", "../../outside", "/etc/passwd", "C:\\x", "a\0b", "é\u202e", "9" * 400, 0, -1, 2**31,
    2**64, 10**400, 1e308, float("nan"), float("inf"), [], {}, [[]], {"a": []}, ["x"], [None], _DEEP,
)  # fmt: skip


def flip(data: bytes, dice: random.Random) -> bytes:
    """Change up to eight bytes."""
    changed = bytearray(data)
    for _ in range(dice.randint(1, 8)):
        changed[dice.randrange(len(changed))] = dice.randrange(256)
    return bytes(changed)


def cut(data: bytes, dice: random.Random) -> bytes:
    """Drop the end, or a piece in the middle."""
    first, second = sorted(dice.randrange(len(data)) for _ in range(2))
    return data[:first] if dice.random() < 0.5 else data[:first] + data[second:]


def stuff(data: bytes, dice: random.Random) -> bytes:
    """Put in something foreign: zeros, brackets, quotes, a byte order mark, a long run of digits."""
    at = dice.randrange(len(data))
    piece = dice.choice(
        [b"\0" * 9, b"[" * 5000, b'"', b"\xff\xfe", b"\xef\xbb\xbf", b"9" * 400, b"\n,\n", dice.randbytes(9)]
    )
    return data[:at] + piece + data[at:]


def change_json(data: bytes, dice: random.Random) -> bytes:
    """Replace a value somewhere by an odd one, take a field away, or add one."""
    if dice.random() < 0.05:
        return json.dumps(dice.choice(ODD)).encode()
    tree = json.loads(data)
    places = list(_places(tree))
    holder, key = dice.choice(places)
    match dice.random():
        case share if share < 0.15:
            del holder[key]
        case share if share < 0.25 and isinstance(holder, dict):
            holder["unheard_of"] = dice.choice(ODD)
        case _:
            holder[key] = dice.choice(ODD)
    return json.dumps(tree).encode()


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    for key in list(tree) if isinstance(tree, dict) else range(len(tree)):
        yield tree, key
        if isinstance(tree[key], dict | list):
            yield from _places(tree[key])


def change_line(data: bytes, dice: random.Random) -> bytes:
    """As :func:`change_json`, of one line of several."""
    lines = data.splitlines()
    at = dice.randrange(len(lines))
    lines[at] = change_json(lines[at], dice)
    return b"\n".join(lines) + b"\n"


def change_cell(data: bytes, dice: random.Random) -> bytes:
    """Replace a cell of a table by an odd one, take it away, or take a line twice."""
    rows = list(csv.reader(io.StringIO(data.decode())))
    row = dice.choice(rows)
    at = dice.randrange(len(row))
    match dice.random():
        case share if share < 0.15:
            del row[at]
        case share if share < 0.25:
            rows.insert(0, list(row))
        case _:
            row[at] = str(dice.choice(ODD)).replace("\0", "0")
    stream = io.StringIO()
    csv.writer(stream).writerows(rows)
    return stream.getvalue().encode()


def change_header(data: bytes, dice: random.Random) -> bytes:
    """As :func:`change_json`, of the header of safetensors."""
    n = int.from_bytes(data[:8], "little")
    header = change_json(data[8 : 8 + n], dice)
    size = dice.choice([len(header)] * 8 + [0, 2**40, 2**64 - 1])
    return size.to_bytes(8, "little") + header + data[8 + n :]


# --- files as they should be -----------------------------------------------------------------

IMAGE = np.random.default_rng(3).integers(0, 900, (24, 26), dtype=np.uint16)
LABELS = np.zeros(IMAGE.shape, np.uint16)
LABELS[3:12, 4:14] = 1
LABELS[14:22, 12:24] = 2


def as_json(name: str, tree: Any) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_text(json.dumps(tree), encoding="utf-8")
        return folder / name

    return make


def as_text(name: str, text: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_text(text, encoding="utf-8")
        return folder / name

    return make


def make_manifest(folder: Path) -> Path:
    tree = json.loads(manifest_path().read_bytes())
    tree["models"] = tree["models"][:2]
    return as_json("weights_manifest.json", tree)(folder)


def make_card(folder: Path) -> Path:
    from napari_cellenhance.core.models.semantic_unet import SemanticUNet

    torch.manual_seed(0)
    net = SemanticUNet(width=2)
    card = {
        "id": "mine", "title": "Mine", "summary": "", "version": "1.0", "recipe": "semantic", "license": "CC0",
        "architecture": {"name": "semantic-unet", "width": 2},
        "normalization": {"name": "percentile", "parameters": {"lo": 1, "hi": 99}},
        "strength": {"default": 1, "maximum": 1, "knots": [0.5]},
    }  # fmt: skip
    save_user_model(net.state_dict(), card, folder=folder)
    return folder / "mine.json"


def make_weights(folder: Path) -> Path:
    state = {"a": torch.ones(3, 2), "b": torch.zeros(4, dtype=torch.int64)}
    path = folder / "w.safetensors"
    path.write_bytes(safetensors.torch.save(state, metadata={"seed": "1", "who": '"me"'}))
    return path


def checkpoint() -> bytes:
    stream = io.BytesIO()
    torch.save({"state_dict": {"c.weight": torch.ones(2, 1, 3, 3), "c.bias": torch.zeros(2)}}, stream)
    return stream.getvalue()


def make_zip(folder: Path) -> Path:
    path = folder / "nunet_models.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/config/filter_slider/sw80.yml", "model: m/last.model\n")
        archive.writestr("m/last.model", checkpoint())
    return path


def make_tar(folder: Path) -> Path:
    path, data = folder / "nunet_models.tar", checkpoint()
    with tarfile.open(path, "w") as archive:
        member = tarfile.TarInfo("m/nunet_sw50.model")
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    return path


def make_model(folder: Path) -> Path:
    path = folder / "nunet_sw50.model"
    path.write_bytes(checkpoint())
    return path


def make_crops(folder: Path) -> Path:
    mask = np.ones((6, 7), bool)
    mask[0, 0] = False
    crops = [
        FoundObject(
            crop=ObjectCrop(pixels=np.full((6, 7), 9.0, np.float32), mask=mask, source="a.tif", box=(1, 2, 7, 9)),
            kind=kind, score=0.5,
        )
        for kind in ("target", "unwanted")
    ]  # fmt: skip
    library = folder / "crops"
    write_crops(library, CropLibrary(objects=tuple(crops), backgrounds=(), white={"a.tif": 9.0}), {"images": ["a.tif"]})
    return library


def part_of(make: Callable[[Path], Path], name: str) -> Callable[[Path], Path]:
    def made(folder: Path) -> Path:
        return make(folder) / name

    return made


def make_store(version: Any) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        place = folder / "i.zarr"
        store = create_store(
            place, [(2, 24, 26), (2, 12, 13)], "CYX", dtype=np.uint16, chunk_px=16, name="i", version=version,
            pixel_size_um={"Y": 0.2, "X": 0.2}, channel_names=("a", "b"),
        )  # fmt: skip
        store.finish({"software": "napari-cellenhance"})
        return place

    return make


def make_image(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        write(
            folder / name, IMAGE, "YX", dtype="uint16", provenance={"filter": "gamma"}, pixel_size_um={"Y": 1, "X": 1}
        )
        return folder / name

    return make


def with_images(name: str, tree: Any) -> Callable[[Path], Path]:
    """A list of sources, and beside it all that it names."""

    def make(folder: Path) -> Path:
        for sub in ("a", "b", "seg"):
            (folder / sub).mkdir()
            tifffile.imwrite(folder / sub / "i.tif", IMAGE)
        tifffile.imwrite(folder / "seg" / "i_labels.tif", LABELS)
        tifffile.imwrite(folder / "l.tif", LABELS)
        np.savez(folder / "s.npz", cells=np.stack([IMAGE, IMAGE]), masks=np.stack([LABELS, LABELS]))
        rows = [{"images": "a/i.tif", "labels": "l.tif", "page": 0, "shape": [24, 26], "split": "train"}]
        (folder / "index.json").write_text(json.dumps(rows), encoding="utf-8")
        return as_json(name, tree)(folder)

    return make


SOURCES = [
    {"name": "i", "index": "index.json", "where": {"split": "train"}, "pages": [0], "min_side_px": 4, "weight": 2},
    {"name": "n", "npz": "s.npz", "key": "cells", "planes": [[0]], "object_diameter_px": 9},
    {"name": "f", "folder": "a", "objects_are_dark": True},
]
LABELLED = [
    {"name": "i", "index": "index.json", "where": {"split": "train"}, "min_side_px": 4},
    {"name": "n", "npz": "s.npz", "key": "cells", "masks": "masks", "object_diameter_px": 9},
    {"name": "f", "folder": "seg", "objects_are_dark": True},
]
PAIRS = [
    {"name": "p", "noisy": {"folder": "a"}, "clean": {"npz": "s.npz", "key": "cells", "planes": [[0]]}},
    {"name": "q", "clean": {"folder": "b"}, "noise": {"photons": 9, "read_sigma": 1, "seed": 2, "range": 255}},
    {"name": "r", "clean": {"folder": "b"}, "noise": {"sigma": 9, "seed": 2}},
]
RECIPE = {
    "cellenhance_recipe": 1,
    "steps": [
        {"step": "denoise", "model_id": "x", "sha256": "a" * 64, "channels": [0]},
        {"step": "enhance", "filter_id": "gamma", "strength": 2.0, "objects_are_dark": True},
    ],
    "labels": {"method": "otsu", "min_size_px": 9},
    "measure": True,
    "dtype": "uint8",
    "input_sha256": "b" * 64,
}
RESULT = {
    "software": "napari-cellenhance", "filter": "gamma", "strength": 2.0, "channels": [0], "statistics": "plane",
    "sha256": "", "source": {"name": "a", "sha256": "c"}, "segment": {"method": "otsu"},
    "earlier": {"step": "denoise", "model": "m", "symmetries": 1, "channels": [0], "source": {"sha256": "d"}},
}  # fmt: skip
JOURNAL = '{"version":1,"shape":[2,3]}\n{"block":[0,1],"level":0}\n{"block":[1,1]}\n'
FINISHED = {
    "name": "a.tif", "state": "done", "source": {"size": 3, "mtime_ns": 4, "sha256": "e"}, "recipe": "r",
    "sizes": {"a": 3}, "n_objects": 2, "warnings": ["w"],
}  # fmt: skip
BEGUN = {"name": "b.tif", "state": "begun", "results": ["b.tif", "sub/b_objects.csv"], "path": "/x/b.tif"}
BATCH = f"{json.dumps(BEGUN)}\n{json.dumps(FINISHED)}\n"
TRAINING = {"data": "x", "steps": 3, "recipe_options": {"crop_px": [3, 4]}}


def read_settings_file(path: Path) -> PluginSettings:
    """The preferences are kept by napari, which hands over whatever stands in its file."""
    try:
        tree = json.loads(path.read_bytes().decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        tree = {}
    return settings_from(SimpleNamespace(**tree) if isinstance(tree, dict) else tree)


def open_batch_journal(path: Path) -> None:
    with Journal(path.parent) as journal:
        journal.is_of(path.parent / "b.tif", path)


def resume(path: Path) -> None:
    with RunJournal.resume(path) as journal:
        assert {type(line) for line in (journal.header, *journal.entries)} == {dict}


def make_package(folder: Path, compression: int) -> Path:
    path = folder / "package.zip"
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("rdf.yaml", "type: model\nformat_version: 0.5.3\nname: n\nweights: {}\n")
        archive.writestr("weights.pt", checkpoint())
    return path


def open_archive(path: Path) -> None:
    for one in read_archive(path):
        open_checkpoint(one)


def copied(folder: Path, name: str) -> Path:
    path = folder / Path(name).name
    path.write_bytes((ROOT / name).read_bytes())
    return path


def read_lazily(path: Path) -> None:
    with open_lazily(path) as image:
        assert image.levels[0].ndim >= 1


class Parser(NamedTuple):
    name: str
    make: Callable[[Path], Path]
    """Write a good file, and what belongs to it; its path."""
    read: Callable[[Path], object]
    change: Callable[[bytes, random.Random], bytes] = change_json
    spoilt: str = ""
    """The file to spoil, where it lies inside of what is read."""


PARSERS = (
    Parser("manifest", make_manifest, read_manifest),
    Parser("card", make_card, read_user_card),
    Parser("card and network", make_card, load_card_file),
    Parser("recipe", as_json("r.json", RECIPE), read_recipe),
    Parser("record", as_json("r.json", RESULT), read_recipe),
    Parser("journal of blocks", as_text("j.jsonl", JOURNAL), resume, change_line),
    Parser("journal of a batch", as_text(BATCH_JOURNAL, BATCH), open_batch_journal, change_line),
    Parser("table of crops", make_crops, read_library, change_cell, TABLE),
    Parser("record of crops", make_crops, read_library, change_json, RECORD),
    Parser("steps of crops", make_crops, read_steps, change_json, RECORD),
    Parser("a crop", make_crops, read_library, flip, "target/00001_a_y1_x2.tif"),
    Parser("points", as_text("p.csv", "index,axis-0,axis-1\n0,1.5,2\n1,3,4\n"), read_points, change_cell),
    Parser("points y x", as_text("p.csv", "y,x\n1.5,2\n3,4\n"), read_points, change_cell),
    Parser("boxes", as_text("b.csv", "y0,x0,y1,x1\n0,1,5,6\n"), read_boxes, change_cell),
    Parser("shapes", as_text("b.csv", "index,axis-0,axis-1\n0,1,1\n0,1,9\n0,9,9\n"), read_boxes, change_cell),
    Parser(
        "column", as_text("t.csv", "layer,fold\na,1\nb,2\nmean,1.5\n"), lambda p: read_column(p, "fold"), change_cell
    ),
    Parser("preferences", as_json("s.json", asdict(PluginSettings())), read_settings_file),
    Parser("archive zip", make_zip, open_archive, flip),
    Parser("archive tar", make_tar, open_archive, flip),
    Parser("checkpoint", make_model, open_archive, flip),
    Parser("package deflated", partial(make_package, compression=zipfile.ZIP_DEFLATED), read_package, flip),
    Parser("package lzma", partial(make_package, compression=zipfile.ZIP_LZMA), read_package, flip),
    Parser("weights", make_weights, load_state, change_header),
    Parser("metadata of weights", make_weights, read_metadata, change_header),
    Parser("OME-Zarr 0.5", make_store("0.5"), read_lazily, change_json, "zarr.json"),
    Parser("OME-Zarr 0.4", make_store("0.4"), read_lazily, change_json, ".zattrs"),
    Parser("a level, Zarr 3", make_store("0.5"), read_lazily, change_json, "0/zarr.json"),
    Parser("a level, Zarr 2", make_store("0.4"), read_lazily, change_json, "0/.zarray"),
    Parser("sources", with_images("s.json", {"sources": SOURCES}), read_sources),
    Parser("index of sources", with_images("s.json", {"sources": SOURCES}), read_sources, change_json, "../index.json"),
    Parser("noisy images", with_images("s.json", {"sources": SOURCES}), read_files),
    Parser("labelled", with_images("s.json", {"sources": LABELLED}), read_labelled),
    Parser(
        "index of labelled", with_images("s.json", {"sources": LABELLED}), read_labelled, change_json, "../index.json"
    ),
    Parser("painted", with_images("s.json", {"sources": LABELLED}), read_painted_files),
    Parser("pairs", with_images("s.json", {"sources": PAIRS}), read_pairs),
    Parser("levels", as_json("l.json", [{"name": "dim", "photons": [9, 20], "gain": 0.5}]), _read_levels),
    Parser("settings of a training", as_json(SETTINGS, TRAINING), lambda p: recall(p.parent, list(TRAINING))),
    Parser("data of an evaluation", lambda folder: copied(folder, "training/semantic-evaluate.json"), read_spec),
    Parser("TIFF", make_image("i.tif"), read, flip),
    Parser("PNG", make_image("i.png"), read, flip),
    Parser("TIFF by region", make_image("i.tif"), read_lazily, flip),
)


def snapshot(folder: Path, but: Path) -> dict[str, str]:
    """All that lies in a folder, apart from one folder in it."""
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in sorted(folder.rglob("*"))
        if but not in (path, *path.parents)
    }


@pytest.fixture
def no_programs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Whatever would run another program is noted instead."""
    ran: list[str] = []
    for place, name in ((os, "system"), (os, "popen"), (subprocess, "Popen")):
        monkeypatch.setattr(place, name, lambda *words, **more: ran.append(str(words)))
    return ran


@pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.name)
@pytest.mark.filterwarnings("ignore")  # of readers below, about what is wrong with the file
def test_a_spoilt_file_is_an_error_of_ours_and_touches_nothing(
    parser: Parser, tmp_path: Path, no_programs: list[str]
) -> None:
    target = tmp_path / "target" / "in"
    target.mkdir(parents=True)
    (tmp_path / "mine.txt").write_text("here before")
    (tmp_path / f".{'0' * 12}.part.tif").write_bytes(b"of another program")
    path = parser.make(target)
    inner = parser.spoilt.removeprefix("../")
    spoilt = (path if path.is_dir() else path.parent) / inner if inner else path
    good = spoilt.read_bytes()
    parser.read(path)  # as it should be, it is taken
    spoilt.write_bytes(good)
    before = snapshot(tmp_path, target)
    dice = random.Random(f"{parser.name} 1")
    escaped: list[str] = []
    n_refused = 0
    for number in range(N_MUTATIONS):
        change = parser.change if number % 2 else dice.choice([flip, cut, stuff])
        spoilt.write_bytes(change(good, dice))
        try:
            parser.read(path)
        except CellEnhanceError as error:
            n_refused += len(str(error)) > 20  # a sentence
        except Exception as error:  # noqa: BLE001 - all that is no error of ours is told
            escaped.append(f"change {number} ({change.__name__}): {error!r}")
    assert not escaped
    assert n_refused >= 3 or parser.read in (read_steps, read_settings_file, open_batch_journal), "too gentle"
    assert snapshot(tmp_path, target) == before
    assert not no_programs
