"""Errors a user can meet; each is also the builtin that fits.

Every message says what came, what was expected, and what to do next.
"""

from __future__ import annotations

__all__ = [
    "AxesError",
    "BusyError",
    "CellEnhanceError",
    "ChecksumError",
    "ClusterError",
    "DeviceError",
    "DownloadError",
    "ImageError",
    "ManifestError",
    "MissingExtraError",
    "ModelExistsError",
    "ModelNotFoundError",
    "ParameterError",
    "TargetExistsError",
    "TrainingError",
    "WeightsError",
    "WriteError",
]


class CellEnhanceError(Exception):
    """Common parent, so that a door can catch what it is able to translate."""


class AxesError(CellEnhanceError, ValueError):
    """Axes that do not fit the shape, are unknown, or occur twice."""


class ImageError(CellEnhanceError, ValueError):
    """Pixel data that cannot be worked on: empty, complex, all NaN, too small."""


class ParameterError(CellEnhanceError, ValueError):
    """A setting outside its range, or two settings that exclude each other."""


class ModelNotFoundError(CellEnhanceError, LookupError):
    """No filter or model of that id."""


class ManifestError(CellEnhanceError, ValueError):
    """A manifest or a model card that does not follow the schema."""


class ModelExistsError(ManifestError):
    """An id that another model has already.

    Parameters
    ----------
    model_id : str
    """

    def __init__(self, model_id: str) -> None:
        super().__init__(f"there is a model {model_id!r} already; give this one another id, or delete that one first")
        self.model_id = model_id


class ChecksumError(CellEnhanceError, OSError):
    """A file whose SHA-256 differs from the one in the manifest."""


class DownloadError(CellEnhanceError, OSError):
    """A file that could not be fetched; the message names the folder to put it by hand."""


class DeviceError(CellEnhanceError, RuntimeError):
    """The asked device does not exist, or ran out of memory even in small tiles."""


class TrainingError(CellEnhanceError, RuntimeError):
    """A training that cannot start or diverged; the best weights so far are kept."""


class WeightsError(CellEnhanceError, ValueError):
    """A weights file that is damaged, is not safetensors, or does not fit its network."""


class WriteError(CellEnhanceError, OSError):
    """A result that could not be written; a file that was there before is untouched."""


class TargetExistsError(WriteError, FileExistsError):
    """The target is there already and overwriting was not asked for."""


class ClusterError(CellEnhanceError, OSError):
    """Other machines, or processes, that cannot be reached or do not fit; what is finished stays."""


class BusyError(CellEnhanceError, OSError):
    """Another run is writing the same result."""


class MissingExtraError(CellEnhanceError, ImportError):
    """A library that only some commands need is not installed; the message names the extra that brings it."""
