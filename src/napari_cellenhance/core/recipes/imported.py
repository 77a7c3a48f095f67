"""A network of somebody else, as a package of the BioImage Model Zoo describes it, behind the contract of every filter.

It gets the image's own grey values, goes through the package's own steps, and gives the model's own values.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_cellenhance.core.device import DeviceChoice
from napari_cellenhance.core.errors import ImageError, ParameterError, WeightsError
from napari_cellenhance.core.processing import Affine, Step, apply_steps, measure_steps, steps_of
from napari_cellenhance.core.recipes.protocol import Checkpoint, FilterInfo
from napari_cellenhance.core.recipes.tiled import BeforeAfter
from napari_cellenhance.core.tiling import Region

__all__ = ["KINDS", "ImportedEnhancer", "NetworkPlan", "Side", "open_network", "run_whole"]

KINDS = ("torchscript", "onnx")
_TILE_PX = 1024
_BYTES_PER_PX = 3000
"""Nothing is known about the network; that of a U-Net of 64 channels at full resolution."""

Network = Callable[[NDArray[Any]], NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Side:
    """Lengths that a network takes along one axis: ``minimum + n·step``, only ``minimum`` where the step is 0."""

    minimum: int
    step: int
    halo: int

    def __post_init__(self) -> None:
        if self.minimum < 1 or self.step < 0 or self.halo < 0:
            raise ParameterError(
                f"the model takes sides of {self.minimum} + n·{self.step} px with a halo of {self.halo}; expected "
                "numbers of 0 and more"
            )
        if not self.step and self.minimum <= 2 * self.halo:
            raise ParameterError(
                f"the model takes sides of {self.minimum} px and the halo is {self.halo}: nothing is left of a tile"
            )

    def fits(self, n: int) -> bool:
        """Whether the network takes an input of this length."""
        more = n - self.minimum
        return more == 0 if not self.step else more >= 0 and more % self.step == 0

    def at_least(self, n: int) -> int:
        """Smallest length of ``n`` or more; the only one there is where the step is 0."""
        return self.minimum + (-(-max(0, n - self.minimum) // self.step) * self.step if self.step else 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkPlan:
    """What a package says about its network.

    Parameters
    ----------
    kind : str
        One of ``KINDS``.
    axes_in, axes_out : str
        Of ``b`` (batch), ``c``, ``z`` (of length 1), ``y``, ``x``; y and x once each.
    dtype : str
        Of the input.
    y, x : Side
    channel : int
        Which of the output's channels is shown.
    before, after : tuple of Step
    """

    kind: str
    axes_in: str
    axes_out: str
    dtype: str
    y: Side
    x: Side
    channel: int
    before: tuple[Step, ...]
    after: tuple[Step, ...]

    def __post_init__(self) -> None:
        for axes in (self.axes_in, self.axes_out):
            if len(set(axes)) != len(axes) or not set("yx") <= set(axes) <= set("bczyx"):
                raise ParameterError(f"the model has the axes {axes!r}; expected y and x, and of b, c, z what there is")
        if self.kind not in KINDS or self.channel < 0 or np.dtype(self.dtype).kind not in "fiu":
            raise ParameterError(f"{self.kind!r}, channel {self.channel}, {self.dtype!r} describe no network")

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> NetworkPlan:
        """Read what :meth:`to_dict` wrote.

        Raises
        ------
        ParameterError
            Something is missing or of the wrong kind.
        """
        try:
            return cls(
                kind=str(stored["name"]), axes_in=str(stored["axes_in"]), axes_out=str(stored["axes_out"]),
                dtype=str(stored["dtype"]), y=Side(*map(int, stored["y"])), x=Side(*map(int, stored["x"])),
                channel=int(stored["channel"]), before=steps_of(stored["before"]), after=steps_of(stored["after"]),
            )  # fmt: skip
        except ParameterError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise ParameterError(f"the description of an imported network is damaged ({error})") from error

    def shown(self, result: NDArray[np.float32]) -> NDArray[np.float32]:
        """The shown channel (Y, X) of an array with the axes of the output."""
        return np.asarray(_from_axes(result, self.axes_out)[self.channel])

    def to_dict(self) -> dict[str, Any]:
        """As the architecture of a model card, ready for JSON."""
        sides = {name: [side.minimum, side.step, side.halo] for name, side in (("y", self.y), ("x", self.x))}
        return {
            "name": self.kind, "axes_in": self.axes_in, "axes_out": self.axes_out, "dtype": self.dtype, **sides,
            "channel": self.channel, "before": [step.to_dict() for step in self.before],
            "after": [step.to_dict() for step in self.after],
        }  # fmt: skip


def open_network(kind: str, data: bytes, device: str = "cpu") -> Network:
    """Network of a TorchScript or ONNX file in memory.

    A TorchScript archive is a program: it is interpreted without Python, but what it computes is up to its authors.

    Raises
    ------
    WeightsError
        Damaged, another kind of file, or an ONNX file whose weights lie in other files.
    ParameterError
        onnxruntime is not installed.
    """
    if kind == "torchscript":
        try:
            with warnings.catch_warnings():
                # torch plans another format; this one is what packages hold.
                warnings.filterwarnings("ignore", message=r"`torch\.jit\.", category=DeprecationWarning)
                module = torch.jit.load(io.BytesIO(data), map_location=device).eval()  # type: ignore[no-untyped-call]
        except (RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[:160]
            raise WeightsError(f"the TorchScript file cannot be read ({reason}); import the model again") from error

        def run(x: NDArray[Any]) -> NDArray[Any]:
            with torch.inference_mode():
                y = module(torch.from_numpy(x).to(device))
            first = y[0] if isinstance(y, (list, tuple)) else y
            return np.asarray(first.float().cpu().numpy())

        return run
    return _open_onnx(data)


def _open_onnx(data: bytes) -> Network:
    if b"\x0a\x08location" in data:  # the key of a tensor that is kept outside
        raise WeightsError("the ONNX file keeps its weights in other files, which are not read; use one that is whole")
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise ParameterError(
            "this model is an ONNX file and onnxruntime is not installed; install it with "
            "'pip install napari-cellenhance[onnx]'"
        ) from error
    try:
        session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    except Exception as error:  # the errors of onnxruntime have no common base; whatever came is told
        reason = " ".join(str(error).split())[:160]
        raise WeightsError(f"the ONNX file cannot be read ({reason})") from error
    name = session.get_inputs()[0].name
    return lambda x: np.asarray(session.run(None, {name: x})[0], np.float32)


def run_whole(network: Network, plan: NetworkPlan, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """What a package promises for an image with the axes of its input: the shown channel, of shape (Y, X)."""
    plane = _from_axes(image, plan.axes_in)[0]
    measured = Measured(measure_steps(plan.before, [plane]), measure_steps(plan.after, [plane]))
    return _run_plane(network, plan, plane, measured)


def _run_plane(
    network: Network, plan: NetworkPlan, plane: NDArray[np.float32], measured: Measured
) -> NDArray[np.float32]:
    ready = apply_steps(plan.before, measured.before, plane)
    result = network(_to_axes(ready, plan.axes_in).astype(plan.dtype, copy=False))
    layers = _from_axes(np.asarray(result, np.float32), plan.axes_out)
    if layers.shape[1:] != plane.shape or layers.shape[0] <= plan.channel:
        raise ImageError(
            f"the network gave {layers.shape[0]} channel(s) of {layers.shape[1:]} px for a plane of {plane.shape} px; "
            f"its package promised the same size, and channel {plan.channel}"
        )
    return np.asarray(apply_steps(plan.after, measured.after, layers)[plan.channel])


@dataclass(frozen=True, slots=True)
class Measured:
    """What the steps before the network measured on whole planes, and what those after it took from the input."""

    before: list[Affine | None]
    after: list[Affine | None]


class ImportedEnhancer:
    """An imported network of single planes; the strength s blends: (1 − s)·x + s·f(x).

    Parameters
    ----------
    network : callable
        From :func:`open_network`.
    plan : NetworkPlan
    info : FilterInfo
    choice : DeviceChoice

    Notes
    -----
    A plane that the network takes as it is, up to 1024 px, is not cut. Others are padded by reflection and cut on a
    grid that begins at the corner of the plane, so that a window of the plane shows what the whole plane would.
    """

    bytes_per_px = _BYTES_PER_PX
    is_bounded = False

    def __init__(self, network: Network, plan: NetworkPlan, info: FilterInfo, choice: DeviceChoice) -> None:
        self.info, self.choice, self._plan, self._network = info, choice, plan, network

    @property
    def halo_px(self) -> int:
        """Context that each tile sees, as the package states it."""
        return max(self._plan.y.halo, self._plan.x.halo)

    def calibrate(self, planes: Sequence[NDArray[np.float32]], checkpoint: Checkpoint) -> Measured:
        """What the package's own steps measure, on all planes pooled."""
        checkpoint()
        return Measured(measure_steps(self._plan.before, planes), measure_steps(self._plan.after, planes))

    def encode(self, plane: NDArray[np.float32], region: Region, calibration: Measured) -> BeforeAfter:
        """Run the network on the tiles that the region touches."""
        after = np.empty(region.shape, np.float32)
        for core in self._cores(plane.shape, region):
            found = self._run_core(plane, core, calibration)
            y0, y1 = max(core.y0, region.y0), min(core.y1, region.y1)
            x0, x1 = max(core.x0, region.x0), min(core.x1, region.x1)
            after[y0 - region.y0 : y1 - region.y0, x0 - region.x0 : x1 - region.x0] = found[
                y0 - core.y0 : y1 - core.y0, x0 - core.x0 : x1 - core.x0
            ]
        return BeforeAfter(plane[region.slices].copy(), after)

    def decode(self, features: BeforeAfter, strength: float) -> NDArray[np.float32]:
        """Blend; strengths above 1 count as 1."""
        return features.after.copy() if strength >= 1.0 else features.blended(strength)

    def calibrate_and_encode(self, plane: NDArray[np.float32], checkpoint: Checkpoint) -> tuple[Any, Any] | None:
        """None: planes are tiled like any other."""
        return None

    def _is_whole(self, shape: Sequence[int]) -> bool:
        plan = self._plan
        return plan.y.fits(shape[0]) and plan.x.fits(shape[1]) and max(shape) <= _TILE_PX

    def _cores(self, shape: Sequence[int], region: Region) -> Iterator[Region]:
        """Windows of the grid of this plane that the region touches."""
        steps = [_core_px(side, n, self._is_whole(shape)) for side, n in zip(self._sides, shape, strict=True)]
        for y in range(region.y0 // steps[0] * steps[0], region.y1, steps[0]):
            for x in range(region.x0 // steps[1] * steps[1], region.x1, steps[1]):
                yield Region(y, min(y + steps[0], shape[0]), x, min(x + steps[1], shape[1]))

    @property
    def _sides(self) -> tuple[Side, Side]:
        return self._plan.y, self._plan.x

    def _run_core(self, plane: NDArray[np.float32], core: Region, measured: Measured) -> NDArray[np.float32]:
        if self._is_whole(plane.shape):
            return self._run(plane, measured)
        spans = zip(self._sides, plane.shape, ((core.y0, core.y1), (core.x0, core.x1)), strict=True)
        rows, columns = (_indices(side, n, low, high) for side, n, (low, high) in spans)
        found = self._run(plane[np.ix_(rows, columns)], measured)
        y, x = self._plan.y.halo, self._plan.x.halo
        return found[y : y + core.shape[0], x : x + core.shape[1]]

    def _run(self, part: NDArray[np.float32], measured: Measured) -> NDArray[np.float32]:
        return _run_plane(self._network, self._plan, np.asarray(part, np.float32), measured)


def _core_px(side: Side, n: int, is_whole: bool) -> int:
    if is_whole:
        return n
    longest = side.minimum if not side.step else side.at_least(min(n, _TILE_PX) + 2 * side.halo)
    return longest - 2 * side.halo


def _indices(side: Side, n: int, low: int, high: int) -> NDArray[np.intp]:
    """Rows of a plane of ``n`` rows that a tile sees: its core and the halo, reflected at the ends."""
    length = side.at_least(high - low + 2 * side.halo)
    wanted = np.arange(low - side.halo, low - side.halo + length)
    if n == 1:
        return np.zeros(length, np.intp)
    period = 2 * (n - 1)
    wanted = np.abs(wanted) % period
    return np.asarray(np.where(wanted < n, wanted, period - wanted), np.intp)


def _to_axes(plane: NDArray[np.float32], axes: str) -> NDArray[np.float32]:
    order = plane if axes.index("y") < axes.index("x") else plane.T
    return np.ascontiguousarray(np.expand_dims(order, tuple(i for i, a in enumerate(axes) if a not in "yx")))


def _from_axes(result: NDArray[np.float32], axes: str) -> NDArray[np.float32]:
    """Channels of the output, of shape (C, Y, X)."""
    if result.ndim != len(axes) or any(n != 1 for n, a in zip(result.shape, axes, strict=True) if a in "bz"):
        raise ImageError(f"the model gave an array of shape {result.shape}; its package promised the axes {axes!r}")
    kept = result.reshape([n for n, a in zip(result.shape, axes, strict=True) if a not in "bz"])
    left = [a for a in axes if a not in "bz"]
    if "c" not in left:
        kept, left = kept[None], ["c", *left]
    return np.transpose(kept, [left.index(a) for a in "cyx"])
