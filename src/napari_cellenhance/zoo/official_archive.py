"""The archive of trained NU-Nets that their authors publish → models of this plugin.

The user downloads it; nothing of it is distributed here. Nothing is unpacked to disk and nothing in
it is run: members are read into memory up to a limit, checkpoints with ``weights_only=True``.

Known of its layout: ``*.model`` files (torch checkpoints with a ``state_dict``) whose names hold ten
times the strength as ``sw80``, and YAML files ``config/**/filter_slider/*.yml`` that name them.
"""

from __future__ import annotations

import io
import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from napari_cellenhance.core.errors import WeightsError
from napari_cellenhance.zoo.archives import damage_told, members, read_limited

__all__ = ["Checkpoint", "families", "read_archive", "strength_in"]

MAX_CHECKPOINT_BYTES = 200_000_000
MAX_CHECKPOINTS = 64
_MAX_CONFIG_BYTES = 1_000_000
_SLIDER_FOLDER = "filter_slider"
_STRENGTH = re.compile(r"(?<![A-Za-z0-9])sw[_-]?(\d{1,3})(?!\d)", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A trained network as it lies in the archive.

    Parameters
    ----------
    name : str
        Path inside the archive.
    strength : float
    data : bytes
        The file, not opened yet.
    """

    name: str
    strength: float
    data: bytes


def read_archive(path: str | os.PathLike[str]) -> list[Checkpoint]:
    """Read all checkpoints of a tar (also compressed) or zip archive, or one ``.model`` file.

    Raises
    ------
    WeightsError
        Neither archive nor checkpoint, damaged, locked by a password, holding names that lead out of it, files
        that are too large or too many, no checkpoint, or one whose strength is not told.
    OSError
        The file cannot be read.
    """
    source = Path(path)
    checkpoints: dict[str, bytes] = {}
    configs: dict[str, str] = {}
    with damage_told(source.name):
        for name, size, stream in _members(source):
            suffix = PurePosixPath(name).suffix.lower()
            if suffix == ".model":
                if len(checkpoints) >= MAX_CHECKPOINTS:
                    raise WeightsError(f"{source.name} holds more than {MAX_CHECKPOINTS} checkpoints; expected about 5")
                checkpoints[name] = _read(stream, size, MAX_CHECKPOINT_BYTES, f"{name} in {source.name}")
            elif suffix in (".yml", ".yaml") and _SLIDER_FOLDER in PurePosixPath(name).parts:
                content = _read(stream, size, _MAX_CONFIG_BYTES, f"{name} in {source.name}")
                configs[name] = content.decode("utf-8", errors="replace")
    if not checkpoints:
        raise WeightsError(
            f"{source.name} holds no .model file; expected the archive of trained NU-Nets of the authors "
            "(nunet_models.tar), as it was downloaded"
        )
    return [
        Checkpoint(name=name, strength=_strength_of(name, configs), data=data)
        for name, data in sorted(checkpoints.items())
    ]


def strength_in(name: str) -> float | None:
    """Strength that a path tells, ``sw80`` being 8.0; the last part of the path that tells one counts.

    >>> strength_in("models/sw55/best.model"), strength_in("models/best.model")
    (5.5, None)
    """
    for part in reversed(PurePosixPath(name).parts):
        if found := _STRENGTH.search(part):
            return int(found.group(1)) / 10
    return None


def families(checkpoints: list[Checkpoint]) -> dict[str, list[Checkpoint]]:
    """Checkpoints that make one slider together: those of a folder, by increasing strength.

    Folders that differ in nothing but the strength in their names count as one.

    Raises
    ------
    WeightsError
        Two checkpoints of a folder for one strength, or a strength outside 0…10.
    """
    found: dict[str, list[Checkpoint]] = {}
    for checkpoint in sorted(checkpoints, key=lambda c: (c.strength, c.name)):
        folder = _STRENGTH.sub("sw", str(PurePosixPath(checkpoint.name).parent))
        family = found.setdefault(folder, [])
        if family and family[-1].strength == checkpoint.strength:
            raise WeightsError(
                f"{family[-1].name} and {checkpoint.name} are both for the strength {checkpoint.strength:g}; "
                "expected one checkpoint for each. Take one of them out of the archive"
            )
        if not 0.0 < checkpoint.strength <= 10.0:
            raise WeightsError(
                f"{checkpoint.name} is for the strength {checkpoint.strength:g}; expected more than 0, at most 10"
            )
        family.append(checkpoint)
    return found


def _strength_of(name: str, configs: Mapping[str, str]) -> float:
    told = strength_in(name)
    if told is None:
        path = PurePosixPath(name)
        naming = [config for config, text in configs.items() if path.name in text or str(path) in text]
        strengths = {strength for config in naming if (strength := strength_in(config)) is not None}
        told = strengths.pop() if len(strengths) == 1 else None
    if told is None:
        raise WeightsError(
            f"the strength of {name} is not told; expected ten times the strength in the file name, such as "
            "nunet_sw80.model for 8.0"
        )
    return told


def _members(source: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    """Name, stated size and open stream of every plain file; links and devices are passed over."""
    if source.suffix.lower() == ".model":  # a checkpoint by itself; it may be a zip file inside
        with open(source, "rb") as stream:
            yield source.name, source.stat().st_size, stream
    else:
        yield from members(source, "the archive of NU-Net")


def _read(stream: IO[bytes], size: int, limit: int, what: str) -> bytes:
    return read_limited(stream, size, limit, what, "this is no checkpoint of NU-Net (7 MB)")


def check_is_small(data: bytes, what: str, limit: int = MAX_CHECKPOINT_BYTES) -> None:
    """Refuse a checkpoint that would grow beyond ``limit`` bytes when torch unpacks it.

    Raises
    ------
    WeightsError
        It would, or its table of contents is damaged.
    """
    with damage_told(what, "download the archive again"):
        if not zipfile.is_zipfile(io.BytesIO(data)):
            return
        with zipfile.ZipFile(io.BytesIO(data)) as inner:
            size = sum(member.file_size for member in inner.infolist())
    if size > limit:
        raise WeightsError(f"{what} unpacks to {size // 10**6} MB; expected about 7 MB")
