"""Settings of the ways to cut objects out of images."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np

from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.core.focus import FocusOptions

__all__ = ["BoxOptions", "CutOptions", "GroundOptions", "KeepOptions", "PointOptions", "SegmentMethod",
           "SegmentOptions"]  # fmt: skip

SegmentMethod = Literal["otsu", "log_otsu", "local"]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepOptions:
    """Which objects are worth keeping.

    Parameters
    ----------
    min_area_px, max_area_px : int
        Pixels of an object; 0 as the largest is no limit.
    drop_border : bool
        Leave out objects that the edge of the image cuts.

    Raises
    ------
    ParameterError
        Negative areas, or a largest one below the smallest.
    """

    min_area_px: int = 30
    max_area_px: int = 0
    drop_border: bool = True

    def __post_init__(self) -> None:
        if self.min_area_px < 0 or self.max_area_px < 0 or 0 < self.max_area_px < self.min_area_px:
            raise ParameterError(
                f"areas are {self.min_area_px}…{self.max_area_px} px; expected 0 or more, the largest above the "
                "smallest (0: no limit)"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class GroundOptions:
    """What counts as an object when the background is kept, beside the objects that were found.

    Parameters
    ----------
    window_px : int
        Side of the square whose mean a pixel is compared with, odd; 0: only the objects that were found.
    offset : float
        So many levels of 255 above the mean of its surroundings a pixel belongs to something.
    is_log : bool
        Compare logarithms, ln(x + 1), for images of a high range.
    margin_px : int
        Objects are made wider by this before they are taken out: their rims shine beyond them.

    Raises
    ------
    ParameterError
        An even window, or a negative margin.

    Notes
    -----
    [1]_ takes for microglia a window of 151, an offset of 3 on the logarithm and a margin of 10; for astrocytes 255
    and 25 without the logarithm, and a margin of 2.

    References
    ----------
    .. [1] Javer & Rittscher 2019, arXiv 1909.00691, and its published scripts.
    """

    window_px: int = 151
    offset: float = 3.0
    is_log: bool = True
    margin_px: int = 2

    def __post_init__(self) -> None:
        if self.window_px < 0 or (self.window_px and self.window_px % 2 == 0):
            raise ParameterError(f"the window of the ground is {self.window_px} px; expected an odd number, or 0")
        if not np.isfinite(self.offset):
            raise ParameterError(f"the offset of the ground is {self.offset}; expected a number")
        if self.margin_px < 0:
            raise ParameterError(f"the margin around objects is {self.margin_px} px; expected 0 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentOptions:
    """How objects are found by their grey values.

    Parameters
    ----------
    method : "otsu", "log_otsu" or "local"
        One threshold for the image, the same on ln(x + 1), or one for each surroundings.
    sigma_px : float
        σ of a Gaussian before, in pixels; 0: none.
    window_px : int
        ``local``: side of the surroundings, odd.
    offset : float
        ``local``: levels of 255 above their mean.
    n_openings : int
        Erosions by the 3×3 ellipse, then as many dilations.
    is_filled : bool
        Fill holes.

    Raises
    ------
    ParameterError
        A setting out of its range.
    """

    method: SegmentMethod = "otsu"
    sigma_px: float = 1.0
    window_px: int = 151
    offset: float = 3.0
    n_openings: int = 1
    is_filled: bool = True

    def __post_init__(self) -> None:
        if self.method not in get_args(SegmentMethod):
            raise ParameterError(
                f"method of segmentation is {self.method!r}; expected one of {', '.join(get_args(SegmentMethod))}"
            )
        if not (np.isfinite(self.sigma_px) and self.sigma_px >= 0) or self.n_openings < 0:
            raise ParameterError(f"σ is {self.sigma_px} px, openings {self.n_openings}; expected 0 or more")
        if self.window_px < 3 or self.window_px % 2 == 0:
            raise ParameterError(f"the window is {self.window_px} px; expected an odd number from 3")


@dataclass(frozen=True, slots=True, kw_only=True)
class PointOptions:
    """How objects under points are found (co-culture of [1]_): log-Otsu of a smoothed image, opened and grown.

    Parameters
    ----------
    sigma_px : float
        σ of the Gaussian, in pixels; 2 is that of an 11 px kernel.
    opening_px : int
        Side of the ellipse of the opening, odd.
    n_openings, n_dilations : int
        The ellipse erodes and dilates so many times, and then dilates again. Of small objects nothing is left: take 1.

    Raises
    ------
    ParameterError
        A setting out of its range.

    References
    ----------
    .. [1] Javer & Rittscher 2019, arXiv 1909.00691, and its published scripts.
    """

    sigma_px: float = 2.0
    opening_px: int = 5
    n_openings: int = 3
    n_dilations: int = 1

    def __post_init__(self) -> None:
        if not (np.isfinite(self.sigma_px) and self.sigma_px >= 0) or self.n_openings < 0 or self.n_dilations < 0:
            raise ParameterError("σ, openings and dilations of points are 0 or more")
        if self.opening_px < 1 or self.opening_px % 2 == 0:
            raise ParameterError(f"the ellipse of the opening is {self.opening_px} px; expected an odd number")


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxOptions:
    """How the object of a box is found (astrocytes of [1]_): medians, Otsu inside, one component.

    Parameters
    ----------
    n_medians : int
        3×3 medians before.
    threshold_factor : float
        Otsu's threshold inside the box is multiplied by it.
    max_offset : float
        Largest distance of the centroid from the middle of the box; sides of the box count as 1.
    min_length : float
        The longer side of the object over that of the box, at least.
    n_squares : int
        Random squares outside the boxes, whose objects are unwanted; 0: none.
    min_square_px, max_square_px : int
        Their sides.

    Raises
    ------
    ParameterError
        A setting out of its range.

    References
    ----------
    .. [1] Javer & Rittscher 2019, arXiv 1909.00691, and its published scripts.
    """

    n_medians: int = 5
    threshold_factor: float = 0.9
    max_offset: float = 0.42
    min_length: float = 0.3
    n_squares: int = 15
    min_square_px: int = 64
    max_square_px: int = 192

    def __post_init__(self) -> None:
        if self.n_medians < 0 or self.n_squares < 0:
            raise ParameterError(f"medians are {self.n_medians}, squares {self.n_squares}; expected 0 or more")
        if not (np.isfinite(self.threshold_factor) and self.threshold_factor > 0):
            raise ParameterError(f"threshold factor is {self.threshold_factor}; expected more than 0")
        if not (self.max_offset > 0 and 0 <= self.min_length <= 1):
            raise ParameterError(
                f"largest offset is {self.max_offset}, least length {self.min_length}; expected more than 0, and 0…1"
            )
        if not 1 <= self.min_square_px <= self.max_square_px:
            raise ParameterError(
                f"squares are {self.min_square_px}…{self.max_square_px} px; expected 1 ≤ smallest ≤ largest"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class CutOptions:
    """What all ways share.

    Parameters
    ----------
    keep : KeepOptions
    ground : GroundOptions or None
        None: that of the way.
    focus : FocusOptions or None
        Measure how sharp every object is; None: no score.
    is_dark : bool
        Objects are darker than the ground (bright field): they are looked for in the complement. Crops keep the grey
        values of the image; the training takes their complement.
    """

    keep: KeepOptions = field(default_factory=KeepOptions)
    ground: GroundOptions | None = None
    focus: FocusOptions | None = None
    is_dark: bool = False
