"""Reading and writing of libraries for the worker: each call takes ``on_progress`` and ``is_cancelled``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from napari_cellenhance.core.crop_library import CropLibrary
from napari_cellenhance.widgets._crop_shelf import Opened
from napari_cellenhance.workflows.crop_files import folder_stamp, read_library, read_steps, write_library
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, Progress

__all__ = ["changed_outside", "open_folder", "save_folder", "save_sheet"]

Stamp = frozenset[tuple[str, int]]


def open_folder(folder: str, on_progress: OnProgress, is_cancelled: IsCancelled) -> Opened | None:
    """Read a library; None when cancelled.

    Raises
    ------
    ParameterError, ImageError
        As for :func:`napari_cellenhance.workflows.crop_files.read_library`.
    """
    on_progress(Progress(n_done=0, n_total=1, message="Reading"))
    place = Path(folder)
    stamp = folder_stamp(place)
    library = read_library(place)
    return None if is_cancelled() else (place, library, read_steps(place), stamp)


def save_folder(
    folder: Path, library: CropLibrary, record: dict[str, Any], on_progress: OnProgress, is_cancelled: IsCancelled,
    *, overwrite: bool,
) -> Stamp:  # fmt: skip
    """Write a library with its contact sheet; returns what its files are like now.

    Raises
    ------
    ParameterError, TargetExistsError, WriteError
        As for :func:`napari_cellenhance.workflows.crop_files.write_library`.
    """
    on_progress(Progress(n_done=0, n_total=1, message="Writing"))
    write_library(folder, library, record, overwrite=overwrite)
    return folder_stamp(folder)


def save_sheet(path: Path, library: CropLibrary, on_progress: OnProgress, is_cancelled: IsCancelled) -> Path:
    """Draw the contact sheet.

    Raises
    ------
    WriteError
        It cannot be written.
    """
    from napari_cellenhance.io.crop_sheets import contact_sheet_png

    contact_sheet_png(path, library)
    return path


def changed_outside(folder: Path, stamp: Stamp) -> bool:
    """Whether files of a library are others than when it was read or written here."""
    return folder.is_dir() and folder_stamp(folder) != stamp
