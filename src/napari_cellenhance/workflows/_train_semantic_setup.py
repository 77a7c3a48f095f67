"""Everything a training of a semantic filter needs before its first update: pairs, network, settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.axes import check_axes, select_channels, to_canonical
from napari_cellenhance.core.crops import CropSet
from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.frame_pairs import BackgroundCheck, Polarity, check_background
from napari_cellenhance.core.normalize import percentiles, sanitize
from napari_cellenhance.core.synthetic_pairs import Kind, Scaling, SceneMaker, SceneSettings, preset, ranged, scaling_of
from napari_cellenhance.workflows._targets import find_sources
from napari_cellenhance.workflows._train_loop import ViewedWindow, fit_settings, timed
from napari_cellenhance.workflows.noisy_images import MAX_PIXELS, NoisyLayer
from napari_cellenhance.workflows.separate import normalizer_for

if TYPE_CHECKING:
    from napari_cellenhance.core.device import DeviceChoice
    from napari_cellenhance.core.models.semantic_unet import SemanticUNet
    from napari_cellenhance.core.recipes.semantic import SemanticRecipe, SemanticTraining
    from napari_cellenhance.core.training import FitSettings
    from napari_cellenhance.workflows.train_semantic import SemanticRequest

__all__ = ["RawMovie", "SemanticSetup", "judged", "prepare", "read_movies", "scene_maker"]

_SAMPLE_PX = 2_000_000
_JUDGED_PX = 150_000
_KINDS: Mapping[str, Kind | None] = {"auto": None, "p99": "p99", "fixed": "fixed", "log": "fixed_log"}


@dataclass(frozen=True, slots=True, eq=False)
class RawMovie:
    """Frames (T, C, Y, X) in their own grey values, finite, float32.

    Parameters
    ----------
    group : str
        The layer or file: planes of one stack learn, or validate, together.
    n_there : int
        Frames of the image; of long movies the first ones are used.
    is_8_bits : bool
        The image was.
    """

    name: str
    frames: NDArray[np.float32]
    group: str
    n_there: int
    is_8_bits: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SemanticSetup:
    """A training that is ready to begin.

    Parameters
    ----------
    crops : CropSet or None
        What is learned from; None for movies.
    checks : tuple of (str, BackgroundCheck)
        Of movies.
    polarity : "dark", "bright" or "both"
        Of what moves, in grey values.
    warnings : tuple of str
    identity : str
        JSON of all that must not change between a run and its resumption.
    """

    request: SemanticRequest
    crops: CropSet | None
    checks: tuple[tuple[str, BackgroundCheck], ...]
    polarity: Polarity
    scaling: Scaling
    module: SemanticUNet
    recipe: SemanticRecipe
    fit_settings: FitSettings
    choice: DeviceChoice
    warnings: tuple[str, ...]
    identity: str

    def show(self, window: ViewedWindow) -> NDArray[np.float32]:
        """Filter a window of raw pixels (C, Y, X) with the network as it is now; the network is not touched."""
        from napari_cellenhance.core.recipes.separator import Separator

        separator, plane = Separator(self.module, self.choice), np.asarray(window.plane)
        normalizer = normalizer_for(self.scaling.kind, self.scaling.parameters, plane)
        scaled = normalizer.normalize(plane)
        groups = [scaled] if separator.n_in == len(scaled) else [scaled[i : i + 1] for i in range(len(scaled))]
        found = [separator.separate(group, region=window.region)[: separator.n_in] for group in groups]
        return normalizer.denormalize(np.concatenate(found)).astype(np.float32)


def prepare(request: SemanticRequest) -> SemanticSetup:
    """Read crops or movies, open or make the network, and measure the pace if time is what counts.

    Raises
    ------
    ImageError, AxesError
        Images that cannot be read or learned from.
    ParameterError
        Settings out of range.
    ModelNotFoundError
        No such model to start from.
    """
    from napari_cellenhance.core.recipes.semantic import SemanticRecipe, SemanticTraining
    from napari_cellenhance.workflows.device_check import choose_checked_device

    choice = choose_checked_device(request.device, request.precision)
    training = SemanticTraining(
        loss=request.loss, batch_size=request.batch_size, validation_fraction=request.validation_fraction,
        n_validation=request.n_validation,
    )  # fmt: skip
    known = _from_movies(request, training) if request.learns_from_movie else _from_crops(request, training)
    module = _network(request, known.pairs.n_in, known.pairs.n_out)
    module.to(choice.torch_device)
    recipe = SemanticRecipe(module, known.pairs, training, use_bf16=choice.precision == "bfloat16")
    if request.n_steps == 0:
        request = timed(request, recipe)
    of_loop = fit_settings(request, preset(request.preset).learning_rate, schedule=request.schedule, weight_decay=0.0)
    identity = known.identity | {
        "network": module.architecture, "init_from": request.init_from, "recipe": asdict(training),
        "scaling": asdict(known.scaling), "fit": asdict(of_loop),
    }  # fmt: skip
    return SemanticSetup(
        request=request, crops=known.crops, checks=known.checks, polarity=known.polarity, scaling=known.scaling,
        module=module, recipe=recipe, fit_settings=of_loop, choice=choice, warnings=known.warnings,
        identity=json.dumps(identity, sort_keys=True),
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """What crops and movies have in common."""

    pairs: Any
    scaling: Scaling
    identity: dict[str, Any]
    crops: CropSet | None = None
    checks: tuple[tuple[str, BackgroundCheck], ...] = ()
    polarity: Polarity = "bright"
    warnings: tuple[str, ...] = ()


# --- crops -----------------------------------------------------------------------------------


def _from_crops(request: SemanticRequest, training: SemanticTraining) -> _Known:
    from napari_cellenhance.core.recipes.semantic import CropPairs

    crops = _crops_of(request)
    scene = _scene(request)
    scaling = _scaling_of_crops(request, crops)
    pairs = CropPairs(crops, scene, scaling, training, request.seed)
    warnings = []
    if pairs.is_split_inside:
        warnings.append(
            "All crops of the kind to keep come from one image, or whole images could not be kept aside: some crops "
            "validate instead, and the scores say little about other images."
        )
    if not crops.unwanted:
        warnings.append("There are no crops of unwanted objects: only the background can be removed.")
    if not crops.backgrounds:
        warnings.append("There is no background: images with uneven ground may be filtered badly.")
    return _Known(
        pairs=pairs, scaling=scaling, crops=crops, warnings=tuple(warnings),
        identity={"crops": _digest_of_crops(crops), "scene": asdict(scene)},
    )  # fmt: skip


def scene_maker(request: SemanticRequest) -> SceneMaker:
    """What draws the synthetic pairs of a training, of all its crops, to look at before.

    Raises
    ------
    ImageError, ParameterError
        As :func:`prepare`.
    """
    crops = _crops_of(request)
    return SceneMaker(crops, _scene(request), _scaling_of_crops(request, crops))


def _crops_of(request: SemanticRequest) -> CropSet:
    from napari_cellenhance.io.crop_folders import read_crops

    if isinstance(request.data, CropSet):
        crops = request.data
    elif isinstance(request.data, tuple):
        raise ParameterError("layers are movies; give a folder of crops, or crops")
    else:
        crops = read_crops(request.data)
    return crops.swapped() if request.is_swapped else crops


def _scene(request: SemanticRequest) -> SceneSettings:
    scene = request.scene or preset(request.preset).scene
    try:
        return replace(scene, **request.recipe_options)
    except TypeError as error:
        raise ParameterError(f"unknown setting of synthetic images: {error}") from error


def _scaling_of_crops(request: SemanticRequest, crops: CropSet) -> Scaling:
    of_preset = preset(request.preset).scaling
    if request.scaling == "auto" and of_preset is not None and not _has_range(request):
        return of_preset
    return scaling_of(
        crops, kind=_KINDS[request.scaling], is_complement=request.is_complement, low=request.low, high=request.high
    )


def _has_range(request: SemanticRequest) -> bool:
    return request.is_complement or not (request.low is None and request.high is None)


def _digest_of_crops(crops: CropSet) -> str:
    digest = hashlib.sha256()
    parts = [(one.pixels, one.mask, f"{one.source} {one.box} {one.track} {one.frame}") for one in crops.target]
    parts += [(one.pixels, one.mask, f"{one.source} {one.box}") for one in crops.unwanted]
    parts += [(one.pixels, one.mask, one.source) for one in crops.backgrounds]
    for pixels, mask, words in parts:
        digest.update(f"{words} {pixels.shape}".encode())
        digest.update(np.ascontiguousarray(pixels).tobytes())
        digest.update(np.ascontiguousarray(mask).tobytes())
    digest.update(json.dumps(dict(sorted(crops.white.items()))).encode())
    return digest.hexdigest()


# --- movies ----------------------------------------------------------------------------------


def _from_movies(request: SemanticRequest, training: SemanticTraining) -> _Known:
    from napari_cellenhance.core.recipes.semantic import Movie, MoviePairs

    if isinstance(request.data, CropSet):
        raise ParameterError("crops are no movie; leave out 'is_movie'")
    raw = read_movies(request)
    checks = tuple((movie.name, judged(movie, request)) for movie in raw)
    found = {check.polarity for _, check in checks}
    polarity: Polarity = next(iter(found)) if len(found) == 1 else "both"
    scaling = _scaling_of_movies(request, raw)
    movies = []
    for movie in raw:
        normalizer = normalizer_for(scaling.kind, scaling.parameters, movie.frames)
        movies.append(Movie(normalizer.normalize(movie.frames), movie.group, movie.name))
    seen: Polarity = polarity
    if scaling.low > scaling.high:
        flipped: dict[Polarity, Polarity] = {"dark": "bright", "bright": "dark", "both": "both"}
        seen = flipped[polarity]
    pairs = MoviePairs(movies, request.lag, request.patch_px, seen, training, request.seed)
    warnings = [f"{name}: {sentence}" for name, check in checks for sentence in check.warnings]
    warnings += [
        f"{movie.name}: only the first {len(movie.frames)} of {movie.n_there} frames are learned from; the rest does "
        "not fit the memory. Crop the movie, or choose fewer."
        for movie in raw
        if len(movie.frames) < movie.n_there
    ]
    return _Known(
        pairs=pairs, scaling=scaling, checks=checks, polarity=polarity, warnings=tuple(warnings),
        identity={"movies": _digest_of_movies(raw), "lag": request.lag, "patch_px": pairs.patch_px},
    )  # fmt: skip


def read_movies(request: SemanticRequest) -> list[RawMovie]:
    """Movies of layers, of a file, of a folder, or of a pattern; every Z plane is a movie of its own.

    Raises
    ------
    ImageError
        No T axis, fewer than two frames a lag apart, no contrast, different channels.
    AxesError
        Axes that do not fit the shape.
    """
    layers = request.data if isinstance(request.data, tuple) else _layers_of(request)
    if not layers:
        raise ParameterError("no movie was given to learn from; choose at least one layer")
    movies = [movie for layer in layers for movie in _movies_of(layer, request.lag, len(layers))]
    kinds = {movie.frames.shape[1] for movie in movies}
    if len(kinds) > 1:
        raise ImageError(f"movies of {' and '.join(map(str, sorted(kinds)))} channels cannot be used together")
    return movies


def _layers_of(request: SemanticRequest) -> tuple[NoisyLayer, ...]:
    from napari_cellenhance.io.images import read

    assert not isinstance(request.data, (CropSet, tuple))
    layers = []
    for source in find_sources(request.data):
        file = read(source)
        layers.append(
            NoisyLayer(name=source.name, image=file.image, axes=request.axes or file.axes, channels=request.channels)
        )
    return tuple(layers)


def _movies_of(layer: NoisyLayer, lag: int, n_layers: int) -> list[RawMovie]:
    axes = check_axes(layer.axes, np.shape(layer.image))
    chosen, _ = select_channels(to_canonical(layer.image, axes), axes, layer.channels)
    n_t, n_c, n_z, height, width = (int(n) for n in chosen.shape)
    if n_t <= lag:
        raise ImageError(
            f"“{layer.name}” has {n_t} time point(s) with the axes {axes}; a lag of {lag} needs more. Say which "
            "axis is time (T), or choose a movie."
        )
    room = MAX_PIXELS // max(1, n_layers) // (n_c * n_z * height * width)
    if room <= lag + 1:
        raise ImageError(f"the frames of “{layer.name}” are too large to learn from; crop the movie first")
    is_8_bits = np.dtype(getattr(layer.image, "dtype", float)) == np.uint8
    movies = []
    for z in range(n_z):
        frames = np.stack([sanitize(np.asarray(chosen[t, :, z]))[0] for t in range(min(n_t, room))])
        if float(frames.min()) == float(frames.max()):
            continue
        name = layer.name if n_z == 1 else f"{layer.name}, plane {z}"
        movies.append(RawMovie(name, frames.astype(np.float32), layer.name, n_t, is_8_bits))
    if not movies:
        raise ImageError(f"“{layer.name}” shows one single grey value everywhere; there is nothing to learn")
    return movies


def judged(movie: RawMovie, request: SemanticRequest, max_px: int = _JUDGED_PX) -> BackgroundCheck:
    """Check of a movie on the mean of its channels; of large frames every n-th pixel."""
    frames = movie.frames.mean(axis=1)
    step = max(1, int(np.ceil(np.sqrt(frames.shape[1] * frames.shape[2] / max_px))))
    polarity: Polarity | None = None if request.polarity == "auto" else request.polarity
    return check_background(np.ascontiguousarray(frames[:, ::step, ::step]), request.lag, polarity)


def _scaling_of_movies(request: SemanticRequest, movies: Sequence[RawMovie]) -> Scaling:
    """Range of 8-bit movies is 0…255; of others the percentiles 0.1 and 99.9 of all of them."""
    kind = _KINDS[request.scaling] or "fixed"
    if kind == "p99":
        return Scaling()
    values = np.concatenate([_sample(movie.frames, len(movies)) for movie in movies])
    low, high = (0.0, 255.0) if all(movie.is_8_bits for movie in movies) else percentiles(values, (0.1, 99.9))
    low = max(0.0, low) if kind == "fixed_log" else low
    return ranged(
        kind, low if request.low is None else request.low, high if request.high is None else request.high,
        request.is_complement,
    )  # fmt: skip


def _sample(frames: NDArray[np.float32], n_movies: int) -> NDArray[np.float32]:
    flat = frames.ravel()
    return flat[:: max(1, flat.size * n_movies // _SAMPLE_PX)]


def _digest_of_movies(movies: Sequence[RawMovie]) -> str:
    digest = hashlib.sha256()
    for movie in movies:
        digest.update(f"{movie.name} {movie.frames.shape}".encode())
        digest.update(np.ascontiguousarray(movie.frames).tobytes())
    return digest.hexdigest()


# --- network ---------------------------------------------------------------------------------


def _network(request: SemanticRequest, n_in: int, n_out: int) -> SemanticUNet:
    import torch

    from napari_cellenhance.core.models.semantic_unet import SemanticUNet

    torch.manual_seed(request.seed)
    module = SemanticUNet(n_in=n_in, n_out=n_out, width=request.width)
    if request.init_from is not None:
        _start_from(module, request.init_from)
    return module


def _start_from(module: SemanticUNet, model_id: str) -> None:
    """Take over the weights of a model of the same shape."""
    from napari_cellenhance.zoo.manifest import find_model
    from napari_cellenhance.zoo.weights import load_model

    card = find_model(model_id)
    if card.recipe != "semantic":
        raise ParameterError(f"the model {card.id!r} is no semantic filter; choose one that is, or start anew")
    source = load_model(card)
    if card.architecture != module.architecture:
        raise ParameterError(
            f"the network to train, {module.architecture}, differs from that of {card.id!r}, {card.architecture}; use "
            "the same, or start from random weights"
        )
    module.load_state_dict(source.state_dict())
