"""Any order of any axes goes to TCZYX and back exactly, without a copy and without computing."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import dask.array
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_cellenhance.core.axes import AXES, check_axes, from_canonical, guess_axes, select_channels, to_canonical
from napari_cellenhance.core.errors import AxesError, ImageError, ParameterError

ALL_ORDERS = [
    "".join(order)
    for n in range(4)
    for others in itertools.combinations("TCZ", n)
    for order in itertools.permutations((*others, "Y", "X"))
]


def numbered(shape: tuple[int, ...], dtype: Any = np.int32) -> np.ndarray:
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


# --- there and back ---------------------------------------------------------------------


@pytest.mark.parametrize("axes", ALL_ORDERS)
def test_every_order_of_every_subset_makes_the_round_trip(axes: str) -> None:
    sizes = dict(zip(AXES, (2, 3, 4, 5, 6), strict=True))
    image = numbered(tuple(sizes[letter] for letter in axes))
    canonical = to_canonical(image, axes)
    assert canonical.shape == tuple(sizes[letter] if letter in axes else 1 for letter in AXES)
    assert np.shares_memory(canonical, image)
    back = from_canonical(canonical, axes)
    np.testing.assert_array_equal(back, image)
    # Not only the shape: the pixel at t, c, z, y, x is the one of the image.
    where = {"T": 1, "C": 2, "Z": 3, "Y": 4, "X": 5}
    index = tuple(where[letter] for letter in axes)
    assert canonical[tuple(where[letter] if letter in axes else 0 for letter in AXES)] == image[index]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(ALL_ORDERS), st.lists(st.sampled_from([1, 1, 2, 3]), min_size=5, max_size=5), st.booleans())
def test_axes_of_length_one_survive_the_round_trip(axes: str, lengths: list[int], is_lazy: bool) -> None:
    image = numbered(tuple(lengths[: len(axes)]))
    given_image = dask.array.from_array(image) if is_lazy else image
    back = from_canonical(to_canonical(given_image, axes.lower()), axes)
    assert back.shape == image.shape
    np.testing.assert_array_equal(back, image)


@pytest.mark.parametrize("axes", ["YXS", "SYX", "ZYXS", "TZYXS", "YSX", "CYXS", "YCXS"])
@pytest.mark.parametrize("n_samples", [1, 3, 4])
def test_colour_samples_take_the_place_of_channels(axes: str, n_samples: int) -> None:
    sizes = {"T": 2, "C": 1, "Z": 3, "Y": 4, "X": 5, "S": n_samples}
    image = numbered(tuple(sizes[letter] for letter in axes))
    canonical = to_canonical(image, axes)
    assert canonical.shape[1] == n_samples
    np.testing.assert_array_equal(from_canonical(canonical, axes), image)


@pytest.mark.parametrize(
    "image",
    [
        numbered((4, 6, 5))[::-1, ::-2, ::-1],
        np.asfortranarray(numbered((4, 3, 5))),
        numbered((4, 3, 5), ">f4"),
        numbered((4, 3, 5), np.float16),
        numbered((4, 3, 5), np.uint64),
        numbered((4, 3, 5), bool),
        np.broadcast_to(np.float32(1), (4, 3, 5)),
    ],
    ids=["negative strides", "fortran order", "big-endian", "float16", "uint64", "bool", "read-only"],
)
def test_layouts_and_types_make_the_round_trip_as_views(image: np.ndarray) -> None:
    back = from_canonical(to_canonical(image, "XZY"), "XZY")
    assert back.dtype == image.dtype
    assert np.shares_memory(back, image)
    np.testing.assert_array_equal(back, image)


def test_the_mask_of_a_masked_array_is_kept() -> None:
    image = np.ma.masked_less(numbered((4, 5)), 7)
    canonical = to_canonical(image, "XY")
    assert isinstance(canonical, np.ma.MaskedArray)
    np.testing.assert_array_equal(canonical.mask[0, 0, 0], image.mask.T)


# --- what images come as ----------------------------------------------------------------


def test_dask_stays_lazy() -> None:
    def fail(block: np.ndarray) -> np.ndarray:
        raise AssertionError("computed")

    image = dask.array.zeros((3, 4, 5), chunks=2).map_blocks(fail, dtype=float, meta=np.zeros((0, 0, 0)))
    canonical = to_canonical(image, "ZYX")
    chosen, _ = select_channels(canonical, "ZYX", "grey")
    assert from_canonical(chosen, "ZYX").shape == (3, 4, 5)
    with pytest.raises(AssertionError, match="computed"):
        canonical.compute()


def test_zarr_is_wrapped_and_read_in_chunks() -> None:
    store = zarr.array(numbered((4, 6, 5)), chunks=(1, 6, 5))
    canonical = to_canonical(store, "ZYX")
    assert canonical.chunksize == (1, 1, 1, 6, 5)
    np.testing.assert_array_equal(np.asarray(canonical)[0, 0], numbered((4, 6, 5)))


def test_labelled_arrays_are_unwrapped() -> None:
    image = SimpleNamespace(dims=("z", "y"), coords={}, data=numbered((3, 4)), shape=(3, 4))
    np.testing.assert_array_equal(to_canonical(image, "YX")[0, 0, 0], numbered((3, 4)))


def test_a_matrix_does_not_stay_two_dimensional() -> None:
    assert to_canonical(numbered((3, 4)).view(np.matrix), "YX").shape == (1, 1, 1, 3, 4)


def test_nested_lists_are_converted() -> None:
    assert to_canonical([[1, 2], [3, 4]], "XY")[0, 0, 0].tolist() == [[1, 3], [2, 4]]


def test_a_pyramid_is_refused_with_advice() -> None:
    levels = [np.zeros((8, 8)), np.zeros((4, 4))]
    for pyramid in (levels, SimpleNamespace(shapes=[(8, 8), (4, 4)], shape=(8, 8))):
        with pytest.raises(ImageError, match="choose one of its levels"):
            to_canonical(pyramid, "YX")


def test_something_that_is_no_array_is_refused() -> None:
    class OnGraphicsCard:
        shape = (3, 4)

        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            raise TypeError("implicit conversion is not allowed")

    with pytest.raises(ImageError, match="OnGraphicsCard could not be read"):
        to_canonical(OnGraphicsCard(), "YX")


def test_unknown_dask_sizes_are_shown_as_such() -> None:
    image = dask.array.ones(9, chunks=3)
    unknown = image[image > 0]
    with pytest.raises(AxesError, match=r"shape \?"):
        to_canonical(unknown, "YX")


# --- checks -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("axes", "shape", "sentence"),
    [
        ("QYX", (2, 3, 4), "contain Q"),
        ("YYX", (2, 3, 4), "name Y more than once"),
        ("YX", (2, 3, 4), "name 2 dimensions, but the image has 3"),
        ("", (2, 3), "name 0 dimensions"),
        ("ZX", (3, 4), "lack Y or X"),
        ("Y", (3,), "lack Y or X"),
        ("YXS", (3, 4, 5), "call it C"),
        ("CYXS", (2, 3, 4, 3), "choose one channel"),
    ],
)
def test_axes_that_do_not_fit_are_refused_in_a_sentence(axes: str, shape: tuple[int, ...], sentence: str) -> None:
    with pytest.raises(AxesError, match=sentence):
        check_axes(axes, shape)


def test_checked_axes_are_upper_case() -> None:
    assert check_axes(" tzYx ", (1, 2, 3, 4)) == "TZYX"


def test_a_dimension_longer_than_one_cannot_be_left_out() -> None:
    with pytest.raises(AxesError, match=r"Z \(length 3\)"):
        from_canonical(np.zeros((1, 1, 3, 4, 5)), "YX")
    with pytest.raises(AxesError, match="has 5 dimensions"):
        from_canonical(np.zeros((4, 5)), "YX")


# --- channels ---------------------------------------------------------------------------


def test_all_channels_stay() -> None:
    image = np.zeros((2, 3, 1, 4, 5))
    chosen, axes = select_channels(image, "TCYX", "all")
    assert chosen is image
    assert axes == "TCYX"


def test_alpha_is_always_dropped() -> None:
    rgba = numbered((4, 5, 4), np.uint8)
    chosen, axes = select_channels(to_canonical(rgba, "YXS"), "YXS", "all")
    assert axes == "YXS"
    np.testing.assert_array_equal(from_canonical(chosen, axes), rgba[..., :3])
    changed = rgba.copy()
    changed[..., 3] = 255 - changed[..., 3]
    grey = [select_channels(to_canonical(image, "YXS"), "YXS", "grey")[0] for image in (rgba, changed)]
    np.testing.assert_array_equal(*grey)
    with pytest.raises(ParameterError, match="from 0 to 2"):
        select_channels(to_canonical(rgba, "YXS"), "YXS", (3,))


def test_grey_is_the_luminance_of_colours_and_the_mean_of_channels() -> None:
    pixel = np.array([[[100, 200, 50]]], np.uint8)
    grey, axes = select_channels(to_canonical(pixel, "YXS"), "YXS", "grey")
    assert axes == "YX"
    assert grey.dtype == np.float32
    assert grey.item() == pytest.approx(0.2125 * 100 + 0.7154 * 200 + 0.0721 * 50, rel=1e-6)
    mean, axes = select_channels(to_canonical(pixel, "YXC"), "YXC", "grey")
    assert axes == "YX"
    assert mean.item() == pytest.approx(350 / 3, rel=1e-6)


def test_grey_of_huge_and_masked_pixels() -> None:
    huge, _ = select_channels(np.full((1, 3, 1, 1, 1), 1.7e308), "YXC", "grey")
    assert np.isfinite(huge).all()
    masked = np.ma.array(np.ones((1, 2, 1, 1, 2)), mask=[[[[[0, 0]]], [[[0, 1]]]]])
    grey, _ = select_channels(masked, "CYX", "grey")
    assert np.ma.getmaskarray(grey).ravel().tolist() == [False, True]


def test_lazy_grey_equals_grey() -> None:
    image = numbered((2, 3, 1, 4, 5), np.uint16)
    lazy, axes = select_channels(dask.array.from_array(image, chunks=2), "TCYX", "grey")
    assert axes == "TYX"
    np.testing.assert_array_equal(np.asarray(lazy), select_channels(image, "TCYX", "grey")[0])


@pytest.mark.parametrize("wrap", [np.asarray, dask.array.from_array])
def test_one_channel_drops_the_axis_and_several_keep_it(wrap: Any) -> None:
    image = numbered((2, 3, 1, 4, 5))
    one, axes = select_channels(wrap(image), "TCYX", (2,))
    assert axes == "TYX"
    np.testing.assert_array_equal(from_canonical(one, axes), image[:, 2, 0])
    two, axes = select_channels(wrap(image), "TCYX", (2, 0))
    assert axes == "TCYX"
    np.testing.assert_array_equal(two, image[:, [2, 0]])


def test_two_colours_are_channels() -> None:
    image = numbered((4, 5, 3))
    chosen, axes = select_channels(to_canonical(image, "YXS"), "YXS", (0, 2))
    assert axes == "YXC"
    np.testing.assert_array_equal(from_canonical(chosen, axes), image[..., [0, 2]])


def test_an_image_without_channels_has_one() -> None:
    image = np.zeros((1, 1, 1, 4, 5))
    assert select_channels(image, "YX", "grey")[1] == "YX"
    assert select_channels(image, "YX", (0,))[1] == "YX"


@pytest.mark.parametrize("channels", [(), (3,), (-1,), (1, 1), "red"])
def test_channels_that_do_not_exist_are_refused(channels: Any) -> None:
    with pytest.raises(ParameterError, match="from 0 to 2"):
        select_channels(np.zeros((1, 3, 1, 4, 5)), "CYX", channels)


# --- guesses ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((64, 48), "YX"),
        ((20, 64, 48), "ZYX"),
        ((1, 64, 48), "ZYX"),
        ((3, 64, 48), "CYX"),
        ((64, 48, 2), "YXC"),
        ((10, 20, 64, 48), "TZYX"),
        ((10, 3, 64, 48), "ZCYX"),
        ((2, 20, 64, 48), "CZYX"),
        ((20, 64, 48, 3), "ZYXC"),
        ((5, 2, 20, 64, 48), "TCZYX"),
        ((5, 20, 2, 64, 48), "TZCYX"),
        ((3, 20, 10, 64, 48), "CTZYX"),
        ((5, 20, 30, 64, 48), "TCZYX"),
        ((1, 1, 1, 64, 48), "TCZYX"),
        ((5, 20, 64, 48, 3), "TZYXC"),
    ],
)
def test_axes_are_guessed_from_the_lengths(shape: tuple[int, ...], axes: str) -> None:
    guess = guess_axes(shape)
    assert (guess.axes, guess.source) == (axes, "guess")
    assert bool(guess.note) == (len(shape) > 2)
    if "C" in axes:
        assert f"length {shape[axes.index('C')]} " in guess.note


@pytest.mark.parametrize(("shape", "axes"), [((4, 5, 3), "YXS"), ((9, 4, 5, 4), "ZYXS"), ((2, 9, 4, 5, 3), "TZYXS")])
def test_colour_images_end_in_samples(shape: tuple[int, ...], axes: str) -> None:
    assert guess_axes(shape, is_rgb=True).axes == axes
    assert guess_axes(shape, is_rgb=True, labels=[f"axis {i}" for i in range(len(shape) - 1)]).axes == axes


@pytest.mark.parametrize("shape", [(), (5,), (2,) * 6, (2,) * 7])
@pytest.mark.parametrize("is_rgb", [False, True])
def test_images_that_cannot_be_named_get_a_sentence(shape: tuple[int, ...], is_rgb: bool) -> None:
    guess = guess_axes(shape, is_rgb=is_rgb)
    assert guess.axes == ""
    assert "choose a slice" in guess.note


@pytest.mark.parametrize(
    ("labels", "axes"),
    [
        (("time", "y", "x"), "TYX"),
        (("Frame", "Row", "Column"), "TYX"),
        (("channel", "Y", "X"), "CYX"),
        (("X", "Y", "slice"), "XYZ"),
    ],
)
def test_labels_are_believed(labels: tuple[str, ...], axes: str) -> None:
    guess = guess_axes((3, 64, 48), labels=labels)
    assert (guess.axes, guess.source) == (axes, "labels")


@pytest.mark.parametrize("is_with_samples", [False, True])
def test_labels_of_a_colour_image_may_leave_out_the_samples(is_with_samples: bool) -> None:
    labels = ("time", "y", "x", "rgb") if is_with_samples else ("time", "y", "x")
    guess = guess_axes((9, 64, 48, 3), is_rgb=True, labels=labels)
    assert (guess.axes, guess.source) == ("TYXS", "labels")


@pytest.mark.parametrize(
    "labels",
    [
        ("-3", "-2", "-1"),
        ("axis 0", "axis 1", "axis 2"),
        ("", "", ""),
        ("dim_0", "dim_1", "dim_2"),
        ("y", "x"),
        ("y",) * 3,
    ],
)
def test_labels_that_say_nothing_are_passed_over(labels: tuple[str, ...]) -> None:
    guess = guess_axes((3, 64, 48), labels=labels)
    assert (guess.axes, guess.source) == ("CYX", "guess")


def test_a_dimension_without_a_label_is_guessed_and_named_in_the_note() -> None:
    guess = guess_axes((20, 64, 48), labels=("-3", "y", "x"))
    assert (guess.axes, guess.source) == ("ZYX", "guess")
    assert "dimension 0 " in guess.note
    assert guess_axes((20, 64, 48), labels=("t", "-2", "-1")).axes == "TYX"
    assert guess_axes((9, 20, 64, 48), labels=("foo", "z", "y", "x")).axes == "TZYX"


def test_labels_that_contradict_the_shape_are_not_believed() -> None:
    assert guess_axes((20, 64, 48), labels=("y", "x", "s")).axes == "ZYX"
    assert guess_axes((20, 64, 48), labels=("t", "c", "z")).axes == "ZYX"


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(0, 30), max_size=7),
    st.booleans(),
    st.lists(st.sampled_from(["t", "c", "z", "y", "x", "s", "-1", "axis 0", "?", "time"]), max_size=7),
)
def test_a_guess_never_raises_and_is_valid_or_empty(lengths: list[int], is_rgb: bool, labels: list[str]) -> None:
    if is_rgb and lengths:
        lengths = [*lengths[:-1], 3]
    guess = guess_axes(lengths, is_rgb=is_rgb, labels=labels)
    if guess.axes:
        assert check_axes(guess.axes, lengths) == guess.axes
        assert guess.axes.endswith("S") == is_rgb or not is_rgb
