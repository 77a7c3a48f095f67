"""From a request to a result: axes, statistics, tiles, memory, cancelling, provenance."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable
from typing import Any

import dask.array
import numpy as np
import pytest
from numpy.typing import NDArray

from napari_cellenhance.core.errors import AxesError, DeviceError, ImageError, ModelNotFoundError, ParameterError
from napari_cellenhance.core.tiling import Region
from napari_cellenhance.workflows import _engine, _planes, catalog, enhance
from napari_cellenhance.workflows._engine import tile_side
from napari_cellenhance.workflows._provenance import hash_image
from napari_cellenhance.workflows.catalog import OpenedFilter
from napari_cellenhance.workflows.progress import Progress
from napari_cellenhance.workflows.requests import BlobOptions, EnhanceRequest, SegmentOptions

Stack = Callable[..., NDArray[np.uint16]]
STEP = 1.0 / 255.0


@pytest.fixture
def request_of(seeded_model: str) -> Callable[..., EnhanceRequest]:
    """Maker of requests for the seeded network, in float32 on the CPU."""

    def make(image: Any, axes: str, **changes: Any) -> EnhanceRequest:
        base = EnhanceRequest(image=image, axes=axes, filter_id=seeded_model, device="cpu", precision="float32")
        return dataclasses.replace(base, **changes)

    return make


RequestOf = Callable[..., EnhanceRequest]


# --- axes and doors ---------------------------------------------------------------------


@pytest.mark.parametrize("axes", ["YX", "XY", "ZYX", "TCYX", "YXC", "XZYT", "TCZYX"])
def test_every_plane_is_enhanced_by_itself_whatever_the_axes(request_of: RequestOf, stack: Stack, axes: str) -> None:
    sizes = {"T": 2, "C": 1, "Z": 2, "Y": 36, "X": 44}
    canonical = stack(*(sizes[a] if a in axes else 1 for a in "TCZYX"))
    image = _to(canonical, axes)
    result = enhance.run(request_of(image, axes))
    assert result.axes == axes
    assert result.image.shape == image.shape
    assert result.image.dtype == np.float32
    for t, c, z in np.ndindex(canonical.shape[:3]):
        alone = enhance.run(request_of(canonical[t, c, z], "YX")).image
        np.testing.assert_array_equal(_from(result.image, axes)[t, c, z], alone)


def _to(canonical: NDArray[Any], axes: str) -> NDArray[Any]:
    present = [a for a in "TCZYX" if a in axes]
    squeezed = canonical[tuple(slice(None) if a in axes else 0 for a in "TCZYX")]
    return squeezed.transpose([present.index(a) for a in axes])


def _from(image: NDArray[Any], axes: str) -> NDArray[Any]:
    present = [a for a in "TCZYX" if a in axes]
    ordered = image.transpose([axes.index(a) for a in present])
    return ordered[tuple(slice(None) if a in axes else None for a in "TCZYX")]


def test_colour_keeps_its_samples_and_grey_drops_them(request_of: RequestOf, stack: Stack) -> None:
    image = np.moveaxis(stack(4, 32, 40), 0, -1).astype(np.uint8)
    colour = enhance.run(request_of(image, "YXS"))
    assert (colour.axes, colour.image.shape) == ("YXS", (32, 40, 3))
    np.testing.assert_array_equal(colour.image[..., 1], enhance.run(request_of(image[..., 1], "YX")).image)
    grey = enhance.run(request_of(image, "YXS", channels="grey"))
    assert (grey.axes, grey.image.shape) == ("YX", (32, 40))


def test_one_channel_drops_the_axis(request_of: RequestOf, stack: Stack) -> None:
    image = stack(3, 32, 40)
    result = enhance.run(request_of(image, "CYX", channels=(1,)))
    assert result.axes == "YX"
    np.testing.assert_array_equal(result.image, enhance.run(request_of(image[1], "YX")).image)


def test_identical_requests_give_identical_pixels(request_of: RequestOf, stack: Stack) -> None:
    request = request_of(stack(48, 60), "YX")
    np.testing.assert_array_equal(enhance.run(request).image, enhance.run(request).image)


def test_lazy_image_gives_the_same_pixels_and_is_read_plane_by_plane(request_of: RequestOf, stack: Stack) -> None:
    image = stack(3, 36, 40)
    reads: list[int] = []

    def read(block: NDArray[np.uint16]) -> NDArray[np.uint16]:
        reads.append(block.size)
        return block

    lazy = dask.array.from_array(image, chunks=(1, 36, 40)).map_blocks(read, meta=np.empty((0, 0, 0), np.uint16))
    result = enhance.run(request_of(lazy, "ZYX"))
    np.testing.assert_array_equal(result.image, enhance.run(request_of(image, "ZYX")).image)
    assert max(reads) == 36 * 40
    in_memory = enhance.run(request_of(image, "ZYX")).provenance["source"]
    assert result.provenance["source"]["sha256"] == in_memory["sha256"]


def test_input_is_never_written_to(request_of: RequestOf, stack: Stack) -> None:
    image = stack(2, 36, 40)
    copy = image.copy()
    image.setflags(write=False)
    for strength in (0.0, 1.0, 6.0):
        enhance.run(request_of(image, "ZYX", strength=strength))
    np.testing.assert_array_equal(image, copy)


@pytest.mark.parametrize("dtype", ["uint8", ">u2", "int16", "uint32", "int64", "float16", "float32", "float64", "bool"])
def test_every_real_type_is_taken(request_of: RequestOf, stack: Stack, dtype: str) -> None:
    image = (stack(32, 40) > 250) if dtype == "bool" else stack(32, 40).clip(0, 255).astype(dtype)
    result = enhance.run(request_of(image[::-1, ::-1], "YX"))
    assert result.image.dtype == np.float32
    assert np.isfinite(result.image).all()
    assert result.image.std() > 0


def test_range_of_the_numbers_does_not_matter(request_of: RequestOf, stack: Stack) -> None:
    image = stack(40, 44).astype(np.float64)
    expected = enhance.run(request_of(image, "YX")).image
    for scale in (1e300, 1e-30, -1.0):
        scaled = image * abs(scale) if scale > 0 else image - 70_000.0
        np.testing.assert_allclose(enhance.run(request_of(scaled, "YX")).image, expected, atol=0.1 * STEP)


# --- strength ---------------------------------------------------------------------------


@pytest.mark.parametrize("filter_id", ["seeded", "gamma"])
@pytest.mark.parametrize("dtype", [np.uint16, np.float64, np.uint8])
def test_strength_zero_returns_a_copy_of_the_input(
    request_of: RequestOf, stack: Stack, filter_id: str, dtype: type
) -> None:
    image = stack(2, 33, 41).astype(dtype)
    result = enhance.run(request_of(image, "TYX", strength=0.0, filter_id=filter_id))
    assert result.image.dtype == image.dtype
    np.testing.assert_array_equal(result.image, image)
    assert not np.shares_memory(result.image, image)
    assert result.is_complete
    assert result.n_done == result.n_total == 2
    assert result.provenance["strength"] == 0.0


def test_strength_zero_loads_no_weights(request_of: RequestOf, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "open_enhancer", _must_not_be_called)
    enhance.run(request_of(stack(33, 41), "YX", strength=0))


def _must_not_be_called(*args: object, **kwargs: object) -> None:
    raise AssertionError("called")


def test_weak_strengths_fade_to_the_normalised_input(request_of: RequestOf, stack: Stack) -> None:
    image = stack(40, 52)
    low, high = np.percentile(image, [0.1, 99.9])
    shown = np.clip((image - low) / (high - low), 0, 1)
    at_two = enhance.run(request_of(image, "YX", strength=2.0)).image
    for strength in (1e-4, 0.5, 1.5):
        expected = shown + (at_two - shown) * strength / 2.0
        found = enhance.run(request_of(image, "YX", strength=strength)).image
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_none_is_the_default_and_too_much_is_clamped(request_of: RequestOf, stack: Stack) -> None:
    image = stack(36, 40)
    default = enhance.run(request_of(image, "YX"))
    assert default.provenance["strength"] == 6.0
    np.testing.assert_array_equal(default.image, enhance.run(request_of(image, "YX", strength=6.0)).image)
    assert enhance.run(request_of(image, "YX", strength=99.0)).provenance["strength"] == 10.0
    with pytest.raises(ParameterError):
        enhance.run(request_of(image, "YX", strength=float("nan")))


def test_dark_objects_are_inverted(request_of: RequestOf, stack: Stack) -> None:
    image = stack(36, 40)
    bright = enhance.run(request_of(image, "YX")).image
    dark = enhance.run(request_of(1000 - image.astype(np.int32), "YX", objects_are_dark=True)).image
    np.testing.assert_allclose(dark, bright, atol=0.1 * STEP)
    assert np.abs(enhance.run(request_of(image, "YX", objects_are_dark=True)).image - bright).max() > 5 * STEP


# --- tiles and statistics ---------------------------------------------------------------


@pytest.mark.parametrize("statistics", ["plane", "stack"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_tiled_equals_untiled(request_of: RequestOf, stack: Stack, statistics: str, precision: str) -> None:
    image = stack(2, 117, 150)
    base = request_of(image, "ZYX", statistics=statistics, precision=precision)
    whole = enhance.run(base)
    tiled = enhance.run(dataclasses.replace(base, tile_px=48))
    assert (whole.n_total, tiled.n_total) == (2, 2 * 3 * 4)
    assert np.abs(tiled.image - whole.image).max() <= (0.01 if precision == "float32" else 1.0) * STEP


def test_a_small_memory_limit_changes_no_pixel(request_of: RequestOf, stack: Stack) -> None:
    request = request_of(stack(200, 230), "YX")
    small = enhance.run(dataclasses.replace(request, memory_limit_mb=1))
    assert small.n_total > 1
    assert small.is_complete
    np.testing.assert_allclose(small.image, enhance.run(request).image, atol=0.01 * STEP)


def test_a_region_is_the_crop_of_the_whole_run(request_of: RequestOf, stack: Stack) -> None:
    image, window = stack(2, 117, 150), Region(20, 83, 31, 150)
    whole = enhance.run(request_of(image, "ZYX"))
    part = enhance.run(request_of(image, "ZYX", region=window))
    assert part.image.shape == (2, 63, 119)
    np.testing.assert_allclose(part.image, whole.image[:, 20:83, 31:150], atol=0.01 * STEP)
    nothing = enhance.run(request_of(image, "ZYX", region=window, strength=0))
    np.testing.assert_array_equal(nothing.image, image[:, 20:83, 31:150])


def test_stack_statistics_keep_the_ratio_between_planes(request_of: RequestOf, stack: Stack) -> None:
    bright = stack(40, 60)
    image = np.stack([bright, bright // 3])
    apart = enhance.run(request_of(image, "TYX"))
    together = enhance.run(request_of(image, "TYX", statistics="stack"))
    np.testing.assert_allclose(apart.image[0], apart.image[1], atol=10 * STEP)
    assert np.abs(together.image[0] - together.image[1]).max() > 20 * STEP
    assert together.provenance["n_planes_pooled"] == 2
    assert len(together.provenance["normalization"]["fitted"]) == 1
    assert len(apart.provenance["normalization"]["fitted"]) == 2


def test_channels_are_never_pooled(request_of: RequestOf, stack: Stack) -> None:
    image = stack(2, 2, 36, 40)
    both = enhance.run(request_of(image, "CZYX", statistics="stack"))
    for channel in range(2):
        alone = enhance.run(request_of(image[channel], "ZYX", statistics="stack"))
        np.testing.assert_array_equal(both.image[channel], alone.image)


def test_a_large_stack_is_measured_on_evenly_spaced_planes_and_says_so(
    request_of: RequestOf, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_planes, "POOLED_PX", 3 * 32 * 40)
    result = enhance.run(request_of(stack(5, 32, 40), "ZYX", statistics="stack"))
    assert result.provenance["n_planes_pooled"] == 3
    assert any("3 of its 5 planes" in sentence for sentence in result.warnings)


# --- bad pixels -------------------------------------------------------------------------


def test_pixels_without_a_number_stay_none_and_do_not_spread(request_of: RequestOf, stack: Stack) -> None:
    image = stack(60, 72).astype(np.float32)
    image[10:12, 20], image[40, 50] = np.nan, np.inf
    result = enhance.run(request_of(image, "YX"))
    np.testing.assert_array_equal(np.isnan(result.image), ~np.isfinite(image))
    assert any("3 pixels" in sentence for sentence in result.warnings)


def test_one_bright_spot_on_an_even_ground_is_not_taken_for_a_flat_plane(request_of: RequestOf) -> None:
    plane = np.zeros((64, 64), np.uint16)
    plane[30, 30] = 900
    result = enhance.run(request_of(plane, "YX", filter_id="gaussian", strength=1.0))
    assert np.isfinite(result.image).all()
    assert np.unravel_index(int(np.argmax(result.image)), plane.shape) == (30, 30)
    assert not any("single grey value" in sentence for sentence in result.warnings)


@pytest.mark.parametrize("statistics", ["plane", "stack"])
def test_flat_planes_become_zeros_with_a_sentence(request_of: RequestOf, stack: Stack, statistics: str) -> None:
    image = stack(2, 32, 40)
    image[1] = 7
    result = enhance.run(request_of(image, "ZYX"))
    assert result.image[0].std() > 0
    assert not result.image[1].any()
    assert any("1 plane of one single grey value" in sentence for sentence in result.warnings)
    flat = enhance.run(request_of(np.zeros((2, 32, 40)), "ZYX", statistics=statistics))
    assert not flat.image.any()
    assert flat.is_complete
    assert flat.n_done == flat.n_total
    assert any("2 planes of one single" in sentence for sentence in flat.warnings)


def test_one_bright_pixel_is_survived(request_of: RequestOf) -> None:
    image = np.zeros((64, 64), np.uint16)
    image[5, 5] = 60_000
    assert np.isfinite(enhance.run(request_of(image, "YX")).image).all()


def test_masked_pixels_are_left_out(request_of: RequestOf, stack: Stack) -> None:
    image = stack(40, 44)
    masked = np.ma.MaskedArray(image, mask=np.zeros(image.shape, bool))
    masked[3, 4] = np.ma.masked
    result = enhance.run(request_of(masked, "YX"))
    np.testing.assert_array_equal(np.isnan(result.image), masked.mask)


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (1, 40), (17, 31)])
def test_tiny_images_come_back_in_their_size(request_of: RequestOf, shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).random(shape)
    result = enhance.run(request_of(image, "YX"))
    assert result.image.shape == shape
    assert np.isfinite(result.image).all()


@pytest.mark.parametrize(
    ("image", "axes", "error"),
    [
        (np.full((8, 8), np.nan), "YX", ImageError),
        (np.zeros((8, 8), np.complex64), "YX", ImageError),
        (np.full((8, 8), "a"), "YX", ImageError),
        (np.zeros((0, 8)), "YX", ImageError),
        (np.zeros((8, 8)), "ZYX", AxesError),
        (np.zeros((8, 8)), "YY", AxesError),
        (dask.array.ones((8, 8))[dask.array.ones(8) > 0], "YX", ImageError),
    ],
)
def test_what_is_no_image_is_refused(request_of: RequestOf, image: Any, axes: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        enhance.run(request_of(image, axes))


@pytest.mark.parametrize("region", [Region(0, 9, 0, 8), Region(-1, 4, 0, 8), Region(4, 4, 0, 8)])
def test_a_region_outside_the_plane_is_refused(request_of: RequestOf, region: Region) -> None:
    with pytest.raises(ParameterError, match="does not lie in a plane"):
        enhance.run(request_of(np.eye(8), "YX", region=region))


def test_an_unknown_filter_is_refused(stack: Stack) -> None:
    with pytest.raises(ModelNotFoundError):
        enhance.run(EnhanceRequest(image=stack(8, 8), axes="YX", filter_id="foo"))


# --- progress and cancelling ------------------------------------------------------------


def test_progress_counts_every_tile_and_extrapolates(request_of: RequestOf, stack: Stack) -> None:
    seen: list[Progress] = []
    enhance.run(request_of(stack(2, 96, 64), "ZYX", tile_px=48), on_progress=seen.append)
    counted = [p for p in seen if p.n_total]
    assert counted[-1].n_done == counted[-1].n_total == 2 * 4
    assert [p.n_done for p in counted] == sorted(p.n_done for p in counted)
    assert {p.n_done for p in counted} >= set(range(1, 9))
    assert counted[-1].eta_s == 0
    assert counted[2].eta_s is not None
    assert all(p.message for p in seen)


@pytest.mark.parametrize("statistics", ["plane", "stack"])
def test_cancel_keeps_what_is_done(request_of: RequestOf, stack: Stack, statistics: str) -> None:
    image = stack(3, 64, 64)
    whole = enhance.run(request_of(image, "ZYX", statistics=statistics, tile_px=32))
    done: list[Progress] = []
    cancelled = enhance.run(
        request_of(image, "ZYX", statistics=statistics, tile_px=32),
        on_progress=done.append,
        is_cancelled=lambda: bool(done) and done[-1].n_done >= 6,
    )
    assert not cancelled.is_complete
    assert cancelled.provenance["is_complete"] is False
    assert (cancelled.n_done, cancelled.n_total) == (6, 12)
    np.testing.assert_array_equal(cancelled.image[0], whole.image[0])
    np.testing.assert_array_equal(cancelled.image[1, :32], whole.image[1, :32])
    assert not cancelled.image[1, 32:].any()
    assert not cancelled.image[2].any()


def test_cancel_stops_between_the_layers_of_a_plane(request_of: RequestOf, stack: Stack) -> None:
    asked = itertools.count()
    result = enhance.run(request_of(stack(64, 64), "YX"), is_cancelled=lambda: next(asked) >= 5)
    assert not result.is_complete
    assert result.n_done == 0
    assert next(asked) == 6
    assert not result.image.any()


# --- memory -----------------------------------------------------------------------------


class Hungry:
    """Enhancer that runs out of memory above a tile size; otherwise the one it wraps."""

    def __init__(self, enhancer: Any, largest_px: int, error: Exception) -> None:
        self.info, self._inner, self._largest, self._error = enhancer.info, enhancer, largest_px, error
        self.bytes_per_px = enhancer.bytes_per_px

    def calibrate(self, *args: Any) -> Any:
        return self._inner.calibrate(*args)

    def calibrate_and_encode(self, plane: NDArray[np.float32], checkpoint: Any) -> Any:
        return self.encode(plane, Region.whole(plane), None) if max(plane.shape) > self._largest else None

    def encode(self, plane: NDArray[np.float32], region: Region, calibration: Any) -> Any:
        if max(region.shape) > self._largest:
            raise self._error
        return self._inner.encode(plane, region, calibration)

    def decode(self, *args: Any) -> Any:
        return self._inner.decode(*args)


@pytest.fixture
def hungry(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Exception], None]:
    """Let every filter run out of memory above a tile size, unless it fell back to the CPU."""

    def starve(largest_px: int, error: Exception) -> None:
        assemble = catalog._assemble

        def wrapped(*args: Any) -> OpenedFilter:
            opened = assemble(*args)
            if opened.choice.is_fallback:
                return opened
            return dataclasses.replace(opened, enhancer=Hungry(opened.enhancer, largest_px, error))

        monkeypatch.setattr(catalog, "_assemble", wrapped)

    return starve


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate")]
)
def test_short_of_memory_tiles_become_smaller(
    request_of: RequestOf, stack: Stack, hungry: Callable[..., None], error: Exception
) -> None:
    request = request_of(stack(2, 150, 150), "ZYX", tile_px=256)
    expected = enhance.run(request).image
    hungry(64, error)
    result = enhance.run(request)
    assert result.is_complete
    assert result.provenance["tile_px"] == 64
    assert len(result.warnings) == 2
    assert "tiles of 64 px" in result.warnings[-1]
    assert result.n_done == result.n_total == 2 * 9
    np.testing.assert_allclose(result.image, expected, atol=0.01 * STEP)


def test_graphics_memory_that_never_suffices_falls_back_to_the_cpu(
    request_of: RequestOf, stack: Stack, hungry: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    request = request_of(stack(100, 100), "YX")
    expected = enhance.run(request).image
    hungry(1, RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB"))
    monkeypatch.setattr(_engine, "_release", lambda device: None)
    opened = catalog.open_enhancer(request.filter_id, "cpu", "float32")
    on_gpu = dataclasses.replace(opened, choice=dataclasses.replace(opened.choice, device="cuda:0"))
    # Copies of the engine are built for the pretended device; the CPU computes in its place.
    assemble = catalog._assemble

    def pretend(spec: Any, module: Any, choice: Any, limit: int) -> OpenedFilter:
        return dataclasses.replace(
            assemble(spec, module, dataclasses.replace(choice, device="cpu"), limit), choice=choice
        )

    monkeypatch.setattr(catalog, "_assemble", pretend)
    result = enhance.apply(request, on_gpu)
    assert result.is_complete
    assert result.provenance["device"] == "cpu"
    assert sum("continued with tiles" in sentence for sentence in result.warnings) == 3
    assert any("graphics memory ran out" in sentence for sentence in result.warnings)
    np.testing.assert_allclose(result.image, expected, atol=0.01 * STEP)


def test_memory_that_never_suffices_on_the_cpu_is_an_error_with_advice(
    request_of: RequestOf, stack: Stack, hungry: Callable[..., None]
) -> None:
    hungry(1, MemoryError())
    with pytest.raises(DeviceError, match="smaller region"):
        enhance.run(request_of(stack(100, 100), "YX"))


def test_other_failures_are_not_taken_for_a_shortage(
    request_of: RequestOf, stack: Stack, hungry: Callable[..., None]
) -> None:
    hungry(1, RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes do not match"):
        enhance.run(request_of(stack(40, 40), "YX"))


def test_tile_side_follows_the_limit() -> None:
    sides = [tile_side(mb, 520) for mb in (1, 50, 200, 2000, 10**6)]
    assert sides == sorted(sides)
    assert sides[0] == 32
    assert sides[-1] == 1536
    for mb, side in zip((50, 200, 2000), sides[1:4], strict=True):
        assert (side + 112) ** 2 * 520 <= mb * 10**6


# --- objects and provenance -------------------------------------------------------------


@pytest.mark.parametrize("strength", [0.0, 2.0])
def test_labels_and_points_fit_the_image(stack: Stack, strength: float) -> None:
    image = stack(2, 64, 80)
    request = EnhanceRequest(
        image=image,
        axes="TYX",
        filter_id="gaussian",
        strength=strength,
        segment=SegmentOptions(min_size_px=10),
        blobs=BlobOptions(min_radius_px=3, max_radius_px=9, threshold=0.05),
    )
    result = enhance.run(request)
    assert result.labels is not None
    assert result.labels.shape == image.shape
    assert result.labels.dtype == np.uint32
    per_plane = [set(np.unique(plane[plane > 0])) for plane in result.labels]
    assert all(per_plane)
    assert not per_plane[0] & per_plane[1]  # ids are unique over the stack
    assert result.points is not None
    assert result.point_radii_px is not None
    assert result.points.shape == (len(result.point_radii_px), 3)
    assert set(result.points[:, 0]) == {0.0, 1.0}
    assert (result.points >= 0).all()
    assert (result.points < image.shape).all()


def test_points_follow_the_order_of_the_axes(stack: Stack) -> None:
    image = stack(50, 90)
    blobs = BlobOptions(min_radius_px=3, max_radius_px=9, threshold=0.05)
    upright = enhance.run(EnhanceRequest(image=image, axes="YX", filter_id="gaussian", blobs=blobs)).points
    turned = enhance.run(EnhanceRequest(image=image.T, axes="XY", filter_id="gaussian", blobs=blobs)).points
    assert upright is not None
    assert turned is not None
    assert len(upright) > 0
    np.testing.assert_allclose(turned, upright[:, ::-1])


def test_provenance_is_json_and_tells_everything(request_of: RequestOf, stack: Stack) -> None:
    image = stack(2, 36, 40)
    result = enhance.run(
        request_of(image, "ZYX", strength=4.0, source_name="cells", pixel_size_um={"Y": 0.5}, tile_px=64)
    )
    told = json.loads(json.dumps(result.provenance))
    spec = catalog.describe("seeded")
    assert told["filter"] == "seeded"
    assert told["sha256"] == spec.sha256
    assert told["version"] == "1.0"
    assert told["reference"] == "Nobody 2026"
    assert told["strength"] == 4.0
    assert (told["axes"], told["axes_out"], told["statistics"]) == ("ZYX", "ZYX", "plane")
    assert (told["device"], told["precision"], told["tile_px"], told["halo_px"]) == ("cpu", "float32", 64, 56)
    assert [fitted["z"] for fitted in told["normalization"]["fitted"]] == [0, 1]
    assert told["source"]["name"] == "cells"
    assert told["source"]["shape"] == [2, 36, 40]
    assert told["source"]["pixel_size_um"] == {"Y": 0.5}
    assert told["source"]["sha256"] == hash_image(image)
    assert set(told["versions"]) == {"python", "napari-cellenhance", "torch", "numpy"}
    assert told["created_utc"].endswith("+00:00")
    assert told["is_complete"] is True


def test_hash_depends_on_pixels_shape_and_type_not_on_memory_layout() -> None:
    image = np.arange(24, dtype=np.uint16).reshape(2, 3, 4)
    assert hash_image(image) == hash_image(np.asfortranarray(image))
    assert hash_image(image) == hash_image(image[::-1][::-1])
    different = [image.reshape(2, 4, 3), image.astype(np.int16), image + np.uint16(1), image[0]]
    assert len({hash_image(image), *map(hash_image, different)}) == 5


def test_doors_share_the_result_of_a_loaded_filter(request_of: RequestOf, stack: Stack) -> None:
    request = request_of(stack(40, 44), "YX")
    opened = catalog.open_enhancer(request.filter_id, "cpu", "float32")
    np.testing.assert_array_equal(enhance.apply(request, opened).image, enhance.run(request).image)
