"""A network of somebody else, as a package of the BioImage Model Zoo describes it, behind the contract of every filter.

It gets the image's own grey values, goes through the package's own steps, and gives the model's own values.
"""

from __future__ import annotations

import io
import itertools
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

__all__ = [
    "KINDS", "ImportedBlocks", "ImportedEnhancer", "NetworkPlan", "Side", "open_network", "run_whole",
]  # fmt: skip

KINDS = ("torchscript", "onnx")
_TILE_PX, _BLOCK_PX = 1024, 64
"""Longest side of a tile, of planes and of volumes; more is taken only where a network takes no less."""
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
        Of ``b`` (batch), ``c``, ``z``, ``y``, ``x``; y and x once each.
    dtype : str
        Of the input.
    y, x : Side
    channel : int or None
        Which of the output's channels is shown; None shows all, as many as the input has.
    before, after : tuple of Step
    z : Side or None
        Planes that it takes at once; None for a network of single planes.
    n_in : int
        Channels that it takes at once.
    is_per_channel : bool
        Steps before the network measure each channel by itself.
    """

    kind: str
    axes_in: str
    axes_out: str
    dtype: str
    y: Side
    x: Side
    channel: int | None
    before: tuple[Step, ...]
    after: tuple[Step, ...]
    z: Side | None = None
    n_in: int = 1
    is_per_channel: bool = False

    def __post_init__(self) -> None:
        for axes in (self.axes_in, self.axes_out):
            if len(set(axes)) != len(axes) or not set("yx") <= set(axes) <= set("bczyx"):
                raise ParameterError(f"the model has the axes {axes!r}; expected y and x, and of b, c, z what there is")
        if (self.n_in > 1 and "c" not in self.axes_in) or (self.z is not None and "z" not in self.axes_in):
            raise ParameterError(f"the model has the axes {self.axes_in!r}, without those that it takes at once")
        if self.kind not in KINDS or self.n_in < 1 or (self.channel or 0) < 0 or np.dtype(self.dtype).kind not in "fiu":
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
                channel=None if stored["channel"] is None else int(stored["channel"]),
                before=steps_of(stored["before"]), after=steps_of(stored["after"]),
                z=Side(*map(int, stored["z"])) if stored.get("z") else None, n_in=int(stored.get("n_in", 1)),
                is_per_channel=bool(stored.get("is_per_channel", False)),
            )  # fmt: skip
        except ParameterError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise ParameterError(f"the description of an imported network is damaged ({error})") from error

    @property
    def takes_blocks(self) -> bool:
        """Whether it takes more at once than a plane of one channel."""
        return self.n_in > 1 or self.z is not None

    @property
    def sides(self) -> tuple[Side, Side, Side]:
        """Of z, y and x; planes go through one by one where it takes no volumes."""
        return self.z or Side(1, 0, 0), self.y, self.x

    def shown(self, result: NDArray[np.float32]) -> NDArray[np.float32]:
        """The shown channels (C, Z, Y, X) of an array with the axes of the output."""
        return self.chosen(_from_axes(result, self.axes_out))

    def chosen(self, layers: NDArray[np.float32]) -> NDArray[np.float32]:
        """The shown channels of all (C, …)."""
        return layers if self.channel is None else layers[self.channel : self.channel + 1]

    def to_dict(self) -> dict[str, Any]:
        """As the architecture of a model card, ready for JSON."""
        sides = {name: [side.minimum, side.step, side.halo] for name, side in (("y", self.y), ("x", self.x))}
        return {
            "name": self.kind, "axes_in": self.axes_in, "axes_out": self.axes_out, "dtype": self.dtype, **sides,
            "channel": self.channel, "before": [step.to_dict() for step in self.before],
            "after": [step.to_dict() for step in self.after],
            **({} if self.z is None else {"z": [self.z.minimum, self.z.step, self.z.halo]}),
            **({} if self.n_in == 1 else {"n_in": self.n_in, "is_per_channel": self.is_per_channel}),
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
                # torch plans another format; this one is what packages hold. The kind of its warning has changed.
                warnings.filterwarnings("ignore", message=r"`torch\.jit\.")
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
    """What a package promises for an image with the axes of its input: the shown channels, of shape (C, Z, Y, X)."""
    block = _from_axes(image, plan.axes_in)
    if plan.takes_blocks:
        return run_block(network, plan, block, measure_block(plan, block))
    measured = measure_planes(plan, [block[0, 0]])
    return _run_plane(network, plan, block[0, 0], measured)[None, None]


def measure_planes(plan: NetworkPlan, planes: Sequence[NDArray[np.float32]]) -> Measured:
    """What the steps measure on planes of one channel, pooled."""
    return Measured([measure_steps(plan.before, planes)], measure_steps(plan.after, planes))


def measure_block(plan: NetworkPlan, block: NDArray[np.float32]) -> Measured:
    """What the steps measure on a whole block (C, Z, Y, X), channels together or each by itself."""
    if plan.is_per_channel:
        before = [measure_steps(plan.before, [channel]) for channel in block]
    else:
        before = [measure_steps(plan.before, [block])] * len(block)
    return Measured(before, measure_steps(plan.after, [block]))


def run_block(
    network: Network, plan: NetworkPlan, block: NDArray[np.float32], measured: Measured
) -> NDArray[np.float32]:
    """The shown channels (C, Z, Y, X) of what the network makes of a block that it takes as it is."""
    ready = np.stack([
        apply_steps(plan.before, steps, channel) for channel, steps in zip(block, measured.before, strict=True)
    ])  # fmt: skip
    result = network(_to_axes(ready, plan.axes_in).astype(plan.dtype, copy=False))
    layers = _from_axes(np.asarray(result, np.float32), plan.axes_out)
    n_wanted = len(block) if plan.channel is None else plan.channel + 1
    if layers.shape[1:] != block.shape[1:] or len(layers) < n_wanted:
        raise ImageError(
            f"the network gave {len(layers)} channel(s) of {_size(layers)} px for {_size(block)} px; its package "
            f"promised the same size, and {n_wanted} channel(s) or more"
        )
    return plan.chosen(np.asarray(apply_steps(plan.after, measured.after, layers), np.float32))


def _size(block: NDArray[Any]) -> tuple[int, ...]:
    return block.shape[2:] if block.shape[1] == 1 else block.shape[1:]


def _run_plane(
    network: Network, plan: NetworkPlan, plane: NDArray[np.float32], measured: Measured
) -> NDArray[np.float32]:
    return np.asarray(run_block(network, plan, plane[None, None], measured)[0, 0])


@dataclass(frozen=True, slots=True)
class Measured:
    """What the steps before the network measured, channel by channel, and what those after it took from the input."""

    before: list[list[Affine | None]]
    after: list[Affine | None]


class ImportedBlocks:
    """An imported network that takes volumes, or several channels at once.

    Parameters
    ----------
    network : callable
        From :func:`open_network`.
    plan : NetworkPlan
    info : FilterInfo
    choice : DeviceChoice

    Notes
    -----
    Blocks that the network takes as they are go through whole; others are padded by reflection and cut on a grid that
    begins at their corner.
    """

    takes_blocks = True
    bytes_per_px = _BYTES_PER_PX

    def __init__(self, network: Network, plan: NetworkPlan, info: FilterInfo, choice: DeviceChoice) -> None:
        self.info, self.choice, self.plan, self._network = info, choice, plan, network

    @property
    def halo_px(self) -> int:
        """Context that each tile sees, as the package states it."""
        return max(side.halo for side in self.plan.sides)

    def run(
        self, block: NDArray[np.float32], region: Region, checkpoint: Checkpoint, on_tile: Callable[[], None]
    ) -> NDArray[np.float32]:
        """The shown channels of a region of every plane.

        Parameters
        ----------
        block : ndarray of shape (C, Z, Y, X)
            Own grey values, finite; of as many channels as the network takes. Not modified.
        region : Region
            Of the planes; statistics come from the whole block.

        Returns
        -------
        ndarray of float32, shape (C, Z, h, w)
        """
        measured = measure_block(self.plan, block)
        parts = [(0, block.shape[1]), (region.y0, region.y1), (region.x0, region.x1)]
        found: NDArray[np.float32] | None = None
        for core in self.tiles(block.shape, region):
            checkpoint()
            tile = self._run_core(block, core, measured)
            if found is None:
                found = np.empty((len(tile), *(high - low for low, high in parts)), np.float32)
            inside = [(max(a, low), min(b, high)) for (a, b), (low, high) in zip(core, parts, strict=True)]
            to = tuple(slice(a - low, b - low) for (a, b), (low, _) in zip(inside, parts, strict=True))
            of = tuple(slice(a - start, b - start) for (a, b), (start, _) in zip(inside, core, strict=True))
            found[:, *to] = tile[:, *of]
            on_tile()
        assert found is not None  # a region is not empty
        return found

    def calibrate(self, planes: Sequence[NDArray[np.float32]], checkpoint: Checkpoint) -> Any:
        """Refuse: single planes do not fit it."""
        raise self._no_plane()

    def encode(self, plane: NDArray[np.float32], region: Region, calibration: Any) -> Any:
        """Refuse: single planes do not fit it."""
        raise self._no_plane()

    def decode(self, features: Any, strength: float) -> NDArray[np.float32]:
        """Refuse: single planes do not fit it."""
        raise self._no_plane()

    def calibrate_and_encode(self, plane: NDArray[np.float32], checkpoint: Checkpoint) -> tuple[Any, Any] | None:
        """Refuse: single planes do not fit it."""
        raise self._no_plane()

    def _no_plane(self) -> ParameterError:
        what = "volumes" if self.plan.z is not None else f"{self.plan.n_in} channels"
        return ParameterError(
            f"“{self.info.title}” takes {what} at once: it has no live preview, and images larger than memory cannot "
            "go through it; press Run"
        )

    def tiles(self, shape: Sequence[int], region: Region) -> list[list[tuple[int, int]]]:
        """Tiles of the grid of a block (C, Z, Y, X) that a region touches: spans of planes, rows and columns."""
        sides, lengths = self.plan.sides, shape[1:]
        is_whole = self._is_whole(lengths)
        steps = [_core_px(side, n, is_whole, self._tile_px) for side, n in zip(sides, lengths, strict=True)]
        wanted = [(0, lengths[0]), (region.y0, region.y1), (region.x0, region.x1)]
        spans = [
            [(start, min(start + step, n)) for start in range(low // step * step, high, step)]
            for step, n, (low, high) in zip(steps, lengths, wanted, strict=True)
        ]
        return [list(core) for core in itertools.product(*spans)]

    @property
    def _tile_px(self) -> int:
        return _TILE_PX if self.plan.z is None else _BLOCK_PX

    def _is_whole(self, lengths: Sequence[int]) -> bool:
        fits = (side.fits(n) for side, n in zip(self.plan.sides, lengths, strict=True))
        return all(fits) and max(lengths) <= self._tile_px

    def _run_core(
        self, block: NDArray[np.float32], core: Sequence[tuple[int, int]], measured: Measured
    ) -> NDArray[np.float32]:
        sides, lengths = self.plan.sides, block.shape[1:]
        if self._is_whole(lengths):
            return run_block(self._network, self.plan, block, measured)
        indices = [_indices(side, n, low, high) for side, n, (low, high) in zip(sides, lengths, core, strict=True)]
        part = block[np.ix_(np.arange(len(block)), *indices)]
        found = run_block(self._network, self.plan, part, measured)
        inside = (slice(side.halo, side.halo + high - low) for side, (low, high) in zip(sides, core, strict=True))
        return found[:, *inside]


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
        return measure_planes(self._plan, planes)

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
        is_whole = self._is_whole(shape)
        steps = [_core_px(side, n, is_whole, _TILE_PX) for side, n in zip(self._sides, shape, strict=True)]
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


def _core_px(side: Side, n: int, is_whole: bool, tile_px: int) -> int:
    if is_whole:
        return n
    longest = side.minimum if not side.step else side.at_least(min(n, tile_px) + 2 * side.halo)
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


def _to_axes(block: NDArray[np.float32], axes: str) -> NDArray[np.float32]:
    """A block (C, Z, Y, X) along the axes of a network; axes that it lacks are of length 1."""
    kept = block.reshape([n for n, a in zip(block.shape, "czyx", strict=True) if a in axes])
    letters = [a for a in "czyx" if a in axes]
    order = np.transpose(kept, [letters.index(a) for a in axes if a != "b"])
    return np.ascontiguousarray(np.expand_dims(order, tuple(i for i, a in enumerate(axes) if a == "b")))


def _from_axes(result: NDArray[np.float32], axes: str) -> NDArray[np.float32]:
    """Array along the axes of a network as (C, Z, Y, X)."""
    if result.ndim != len(axes) or any(n != 1 for n, a in zip(result.shape, axes, strict=True) if a == "b"):
        raise ImageError(f"the model gave an array of shape {result.shape}; its package promised the axes {axes!r}")
    kept = result.reshape([n for n, a in zip(result.shape, axes, strict=True) if a != "b"])
    left = [a for a in axes if a != "b"]
    for missing in "cz":
        if missing not in left:
            kept, left = kept[None], [missing, *left]
    return np.transpose(kept, [left.index(a) for a in "czyx"])
