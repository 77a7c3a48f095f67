"""The public Python call that checks whether a result can be true."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from napari_cellenhance.workflows._batch_steps import Machine
from napari_cellenhance.workflows._measured import MeasuredImage
from napari_cellenhance.workflows.guards import CheckRequest, CheckResult
from napari_cellenhance.workflows.guards import check as run_check
from napari_cellenhance.workflows.python_api import axes_of

__all__ = ["check"]


def check(
    image: Any,
    result: Any = None,
    *,
    model: str = "",
    record: Mapping[str, Any] | None = None,
    reruns: bool = True,
    gain: float | None = None,
    offset: float = 0.0,
    objects_are_dark: bool = False,
    axes: str | None = None,
    plane: tuple[int, int, int] | None = None,
    device: str = "auto",
) -> CheckResult:
    """Check a result against its image, as the Compare dock and ``cellenhance check`` do.

    Parameters
    ----------
    image : array-like of shape (…, Y, X)
        Before; numpy, dask or zarr; never written to.
    result : array-like, optional
        After, of the same shape. Default: what ``model`` makes.
    model : str
        Model or filter that made the result; or give the ``record`` of ``with_record=True``.
    record : mapping, optional
        How the result was made.
    reruns : bool
        Run the model again on turned copies and on halves of the image (twelve runs on the middle 1024 px).
    gain, offset : float, optional
        Of the camera: grey values per photon, and grey value without light; photons are then dealt out in halves.
    objects_are_dark : bool
        In the image.
    axes : str, optional
        Out of ``TCZYX``. Default: guessed.
    plane : (t, c, z), optional
        Of stacks, from 0. Default: the middle one.
    device : str
        As for :func:`napari_cellenhance.enhance`.

    Returns
    -------
    CheckResult
        ``findings`` (``guard``, ``level`` "fine", "look" or "doubt", ``sentence``, ``numbers``), ``maps``, ``record``.

    Raises
    ------
    ImageError, AxesError, ParameterError
        Images that do not fit each other or are too small, or nothing that could be checked.
    ModelNotFoundError, DownloadError, ChecksumError, DeviceError
        The model cannot be had.

    Examples
    --------
    >>> import numpy as np
    >>> from napari_cellenhance import check
    >>> noisy = np.random.default_rng(0).normal(100, 5, (64, 64))
    >>> noisy[20:36, 20:36] += 80
    >>> [finding.level for finding in check(noisy, np.full((64, 64), 100.0)).findings]
    ['doubt', 'doubt']
    """
    pixels = image if hasattr(image, "shape") else np.asarray(image)
    letters = axes_of(pixels, axes, False)

    def measured(name: str, array: Any) -> MeasuredImage:
        kept = array if hasattr(array, "shape") else np.asarray(array)
        return MeasuredImage(name=name, image=kept, axes=letters, at=plane)

    before = measured("image", pixels)
    request = CheckRequest(
        image=MeasuredImage(
            name="image", image=before.image, axes=letters, at=plane, objects_are_dark=objects_are_dark
        ),
        result=None if result is None else measured("result", result), record=record, model_id=model,
        runs_model=reruns, gain=gain, offset=offset, machine=Machine(device=device),
    )  # fmt: skip
    return run_check(request)
