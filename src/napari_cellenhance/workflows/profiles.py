"""Line profiles of several images along one line in the world, so that pixel sizes and places may differ.

References
----------
.. [1] Weigert et al., "Content-aware image restoration", Nature Methods 2018: profiles of truth, degraded and restored
   images along one line.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core import line_profiles as lines
from napari_cellenhance.core.axes import SAMPLES
from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.line_profiles import Comparison, Normalization, Peak
from napari_cellenhance.workflows._measured import MeasuredImage, open_layer, plane_name
from napari_cellenhance.workflows._planes import PlaneIndex
from napari_cellenhance.workflows.measure import describe_layers
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, Progress, never_cancelled, no_progress

__all__ = [
    "ImageProfile",
    "ProfileRequest",
    "ProfileResult",
    "ProfiledImage",
    "measure_profiles",
    "placed",
    "read_profiled",
]

FloatArray = NDArray[np.float64]
_MARGIN_PX = 2
"""Beyond the places that are read: what interpolation needs, and an edge that is no edge of the image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfiledImage:
    """An image and where it lies.

    Parameters
    ----------
    image : MeasuredImage
        One plane, or a stack with ``at``, the plane to read. Colours are taken as their luminance.
    to_px : ndarray of shape (2, 3)
        World (y, x, 1) → row and column of the plane, in px; see :func:`placed`.
    """

    image: MeasuredImage
    to_px: FloatArray

    @property
    def name(self) -> str:
        """As it stands in the table."""
        return self.image.name

    @property
    def pixel(self) -> float:
        """Side of a pixel in world units; of pixels that are no squares, that of a square of the same area."""
        return float(1 / np.sqrt(abs(np.linalg.det(self.to_px[:, :2]))))


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileRequest:
    """Which images to read along which line.

    Parameters
    ----------
    images : tuple of ProfiledImage
        With different names.
    line : tuple of (float, float)
        Two or more points (y, x) in the world.
    width_px : int
        Across the line, in pixels of the image with the smallest ones, as all lengths in px.
    reference : str
        Name of the image that others are compared with; empty: none.
    um_per_unit : float or None
        Micrometres of one unit of the world; None: not known.
    prominence : float
        See :func:`napari_cellenhance.core.line_profiles.find_peaks`.
    """

    images: tuple[ProfiledImage, ...]
    line: tuple[tuple[float, float], ...]
    width_px: int = 1
    reference: str = ""
    um_per_unit: float | None = None
    prominence: float = lines.PROMINENCE

    def __post_init__(self) -> None:
        if not self.images:
            raise ParameterError("there is no image to read; choose at least one")
        names = [image.name for image in self.images]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ParameterError(f"two images are called “{twice}”; give them different names")
        if self.reference and self.reference not in names:
            raise ParameterError(f"the reference “{self.reference}” is none of {', '.join(names)}; choose one of them")
        for image in self.images:
            matrix = np.asarray(image.to_px, np.float64)
            if matrix.shape != (2, 3) or not np.isfinite(matrix).all() or np.linalg.det(matrix[:, :2]) == 0:
                raise ParameterError(f"the place of “{image.name}” is no place; give it a scale that is not 0")
        if self.um_per_unit is not None and not 0 < self.um_per_unit < np.inf:
            raise ParameterError(f"a unit has {self.um_per_unit} µm; expected more than 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageProfile:
    """Profile of one image.

    Parameters
    ----------
    name : str
    values : ndarray of shape (N,)
        Grey values as stored; NaN outside of the image.
    peaks : tuple of Peak
    partners : tuple of (int or None)
        For each peak, the number of its partner among those of the reference; empty without one.
    comparison : Comparison or None
        With the reference; None for the reference itself, and without one.
    """

    name: str
    values: FloatArray
    peaks: tuple[Peak, ...]
    partners: tuple[int | None, ...] = ()
    comparison: Comparison | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileResult:
    """Profiles in the order of the images.

    Parameters
    ----------
    distance_px : ndarray of shape (N,)
        Along the line.
    pixel_um : float or None
        Length of a px.
    profiles : tuple of ImageProfile
    reference : str
        Empty: none.
    notes : tuple of str
        What a reader of the numbers must know.
    record : dict
        What was measured, JSON-ready.
    is_complete : bool
        False when stopped before the last image.
    """

    distance_px: FloatArray
    pixel_um: float | None
    profiles: tuple[ImageProfile, ...]
    reference: str
    notes: tuple[str, ...]
    record: dict[str, Any]
    is_complete: bool = True

    @property
    def distance(self) -> FloatArray:
        """In µm if the pixel size is known, else in px."""
        return self.distance_px * (self.pixel_um or 1.0)

    @property
    def unit(self) -> str:
        """Of :attr:`distance`."""
        return "px" if self.pixel_um is None else "µm"

    def shown(self, how: Normalization) -> dict[str, FloatArray]:
        """Values by name of the image, on the scale asked for.

        Raises
        ------
        ParameterError
            ``fit`` without a reference.
        """
        truth = next((each.values for each in self.profiles if each.name == self.reference), None)
        return {each.name: lines.normalized(each.values, how, truth) for each in self.profiles}


def placed(scale: Sequence[float] = (1.0, 1.0), translate: Sequence[float] = (0.0, 0.0)) -> FloatArray:
    """Matrix (2, 3) of an image whose first pixel has its centre at ``translate`` and whose pixels have ``scale``.

    Raises
    ------
    ParameterError
        A scale of 0.

    Examples
    --------
    >>> placed((0.5, 0.5), (10, 20)) @ (10.5, 20, 1)
    array([1., 0.])
    """
    steps, origin = np.asarray(scale, np.float64), np.asarray(translate, np.float64)
    if steps.shape != (2,) or origin.shape != (2,) or not steps.all():
        raise ParameterError(f"scale {scale} and translate {translate}; expected two numbers (y, x) each, scale not 0")
    return np.column_stack([np.diag(1 / steps), -origin / steps])


def measure_profiles(
    request: ProfileRequest, *, on_progress: OnProgress = no_progress, is_cancelled: IsCancelled = never_cancelled
) -> ProfileResult:
    """Read all images along the line; of a lazy one only the part around the line is computed.

    Raises
    ------
    AxesError, ImageError
        An image that is no plane of real numbers, or a line outside of all images.
    ParameterError
        A line without length, a stack without the plane to read, or a setting outside its range.
    """
    pixel = min(image.pixel for image in request.images)
    places = lines.places_along(np.asarray(request.line, np.float64) / pixel, request.width_px)
    world = places.yx * pixel
    values: dict[str, FloatArray] = {}
    for number, image in enumerate(request.images):
        if is_cancelled():
            break
        on_progress(Progress(n_done=number, n_total=len(request.images), message=f"Reading “{image.name}”"))
        values[image.name] = _read(image, world)
    on_progress(Progress(n_done=len(values), n_total=len(request.images), message="Read"))
    peaks = {name: lines.find_peaks(places.distance_px, here, request.prominence) for name, here in values.items()}
    return ProfileResult(
        distance_px=places.distance_px,
        pixel_um=None if request.um_per_unit is None else pixel * request.um_per_unit,
        profiles=tuple(_profile(name, values, peaks, request.reference) for name in values),
        reference=request.reference,
        notes=_notes(request, values),
        record=_record(request, pixel),
        is_complete=len(values) == len(request.images),
    )


def _read(image: ProfiledImage, world: FloatArray) -> FloatArray:
    layer = open_layer(image.image)
    if len(layer.planes) != 1:
        raise ParameterError(
            f"“{layer.name}” has {len(layer.planes)} planes; a profile is read from one: say which, "
            f"from {plane_name(layer.planes[0], layer.pixels.shape[:3])} "
            f"to {plane_name(layer.planes[-1], layer.pixels.shape[:3])}"
        )
    yx = world @ image.to_px[:, :2].T + image.to_px[:, 2]
    # Only the part of the plane around the line: a lazy image need not be computed as a whole.
    box = [_window(yx[..., axis], n) for axis, n in enumerate(layer.plane_shape)]
    if any(part.start >= part.stop for part in box):
        return np.full(len(yx), np.nan)
    plane = layer.pixels.read(layer.planes[0], (box[0], box[1]))
    return lines.values_at(plane, yx - [box[0].start, box[1].start])


def _window(places: FloatArray, n: int) -> slice:
    low, high = np.floor(places.min()) - _MARGIN_PX, np.ceil(places.max()) + 1 + _MARGIN_PX
    return slice(int(np.clip(low, 0, n)), int(np.clip(high, 0, n)))


def _profile(
    name: str, values: dict[str, FloatArray], peaks: dict[str, tuple[Peak, ...]], reference: str
) -> ImageProfile:
    if reference not in values or name == reference:
        return ImageProfile(name=name, values=values[name], peaks=peaks[name])
    return ImageProfile(
        name=name,
        values=values[name],
        peaks=peaks[name],
        partners=lines.match_peaks(peaks[name], peaks[reference]),
        comparison=lines.compare(values[name], peaks[name], values[reference], peaks[reference]),
    )


def _notes(request: ProfileRequest, values: dict[str, FloatArray]) -> tuple[str, ...]:
    shares = {name: float(np.isfinite(here).mean()) for name, here in values.items()}
    if values and not any(shares.values()):
        names = ", ".join(f"“{name}”" for name in values)
        raise ImageError(f"the line lies outside of {names}; draw it across what they show")
    colours = {image.name for image in request.images if SAMPLES in image.image.axes.upper()}
    notes = [f"Of “{name}” the luminance of its colours was read." for name in values if name in colours]
    for name, share in shares.items():
        if share == 0:
            notes.append(f"The line does not touch “{name}”: it lies elsewhere, or has no values there.")
        elif share < 1:
            notes.append(f"“{name}” has values on {max(1, min(99, round(100 * share)))} % of the line.")
    reference = request.reference
    truth = values.get(reference)
    if truth is not None and shares[reference]:
        notes += [
            f"“{name}” and “{reference}” have no place of the line in common, so that they cannot be compared."
            for name, here in values.items()
            if shares[name] and not (np.isfinite(here) & np.isfinite(truth)).any()
        ]
    return tuple(notes)


def _record(request: ProfileRequest, pixel: float) -> dict[str, Any]:
    return {
        "measured": "line profiles",
        **describe_layers(images=[image.image for image in request.images]),
        "world_to_px": {image.name: np.asarray(image.to_px).tolist() for image in request.images},
        "line_yx": [[float(y), float(x)] for y, x in request.line],
        "um_per_unit": request.um_per_unit,
        "px_in_world_units": pixel,
        "width_px": int(request.width_px),
        "reference": request.reference or None,
        "prominence": request.prominence,
    }


# --- files --------------------------------------------------------------------------------------


def read_profiled(
    paths: Sequence[str | os.PathLike[str]], *, axes: str = "", plane: PlaneIndex | None = None
) -> tuple[tuple[ProfiledImage, ...], float | None, tuple[str, ...]]:
    """Read images whose first pixels lie on each other, each with the pixel size that its file tells.

    Parameters
    ----------
    paths : sequence of path
        TIFF, OME-TIFF or PNG.
    axes : str
        Of all; empty: as in the files.
    plane : (t, c, z) or None
        Of stacks, from 0.

    Returns
    -------
    images : tuple of ProfiledImage
        Named as the files.
    um_per_unit : float or None
        1 if the world is in µm; None if no file tells a pixel size, so that it is in px.
    notes : tuple of str

    Raises
    ------
    ImageError, OSError
        As for :func:`napari_cellenhance.io.images.read`, or a file of another size than the others that does not
        tell its pixel size while others do.
    """
    from napari_cellenhance.io.images import read

    files = [(Path(path), read(path)) for path in paths]
    sizes = [_pixel_yx(file.pixel_size_um) for _, file in files]
    known = [(file, size) for (_, file), size in zip(files, sizes, strict=True) if size is not None]
    images, notes = [], []
    names = _names([path for path, _ in files])
    for (_, file), size, name in zip(files, sizes, names, strict=True):
        if size is None and known:
            alike = next((known_size for other, known_size in known if _yx(other) == _yx(file)), None)
            if alike is None:
                raise ImageError(
                    f"{name} does not tell its pixel size and has another size than the others; save it with one"
                )
            size = alike
            notes.append(f"{name} does not tell its pixel size; it was taken from the file of the same size.")
        measured = MeasuredImage(name=name, image=file.image, axes=axes or file.axes, at=plane)
        images.append(ProfiledImage(image=measured, to_px=placed(size or (1.0, 1.0))))
    return tuple(images), 1.0 if known else None, tuple(notes)


def _yx(file: Any) -> tuple[int, ...]:
    return tuple(int(file.image.shape[file.axes.index(letter)]) for letter in "YX")


def _pixel_yx(sizes: dict[str, float]) -> tuple[float, float] | None:
    return (sizes["Y"], sizes["X"]) if "Y" in sizes and "X" in sizes else None


def _names(paths: Sequence[Path]) -> list[str]:
    """File names; with their folders where two are alike."""
    names = [path.name for path in paths]
    return names if len(set(names)) == len(names) else [str(path) for path in paths]
