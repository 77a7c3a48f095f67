"""Make the pictures of the dock that the docs and the README show.

Starts the real viewer, opens the bundled samples, drives the dock as a user would, and saves
PNGs: before a run, the live preview, during a run, after it, after a cancel, and stained tissue.
Needs a display; without one use

    make screenshots
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from qtpy.QtWidgets import QApplication

from napari_cellenhance.zoo.folders import MODELS_VARIABLE

PLUGIN, DOCK, MEASURE_DOCK, TEACH_DOCK = "napari-cellenhance", "Enhance cells", "Measure", "Teach it your cells"
DENOISE_DOCK, RESTORE_DOCK, CROPS_DOCK = "Denoise", "Restore like these", "Crop library"
BATCH_DOCK, PLATE_PX, PLATE_STEP_PX = "Batch", 256, 60
COMPARE_DOCK, FIGURE_SHARE = "Compare", 0.5
SIZE = (1360, 860)
N_FRAMES = 12
TEACH_STEPS = 60
DENOISE_STEPS = 240
RESTORE_STEPS, RESTORE_PATCH_PX = 200, 32
KEEP_DOCK, KEEP_STEPS, MOVIE_STEPS, KEEP_PX, KEEP_RATE = "Keep only…", 150, 120, 64, 1e-3
PIXEL_UM = 0.325
GAIN, READ_NOISE = 0.15, 4.0
"""Photons per grey value, and the standard deviation of the camera in grey values."""


def wait_for(condition: Callable[[], bool], timeout_s: float = 600.0) -> None:
    """Let the window live until ``condition`` holds.

    Raises
    ------
    TimeoutError
        It did not come true in time.
    """
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("the window did not get there in time")
        QApplication.processEvents()
        time.sleep(0.01)


def let_live(seconds: float) -> None:
    """Process events for a while."""
    end = time.monotonic() + seconds
    wait_for(lambda: time.monotonic() > end)


class Camera:
    """Takes pictures of the whole window."""

    def __init__(self, viewer: Any, folder: Path) -> None:
        self.viewer = viewer
        self.folder = folder

    def shoot(self, name: str) -> None:
        """Save the window as ``name``.png."""
        path = self.folder / f"{name}.png"
        pixels = self.viewer.screenshot(canvas_only=False, flash=False)
        Image.fromarray(np.asarray(pixels)[..., :3]).save(path, optimize=True)
        print(f"{path}  {pixels.shape[1]}×{pixels.shape[0]}")


def open_dock(viewer: Any, filter_id: str | None) -> Any:
    _, panel = viewer.window.add_plugin_dock_widget(PLUGIN, DOCK)
    if filter_id is not None:
        panel.filters.choose(filter_id)
    return panel


def show_nuclei(viewer: Any, camera: Camera, filter_id: str | None) -> None:
    viewer.open_sample(PLUGIN, "nuclei")
    panel = open_dock(viewer, filter_id)
    wait_for(lambda: bool(panel.image.dark_note.text()))
    let_live(1.0)
    camera.shoot("enhance-before")

    viewer.scene.camera.zoom *= 1.6
    panel.badge.switch.setChecked(True)
    wait_for(lambda: panel.badge.badge.text().endswith(" ms"))
    maximum = panel.strength.number.maximum()
    for share in (0.3, 0.45, 0.6, 0.75, 0.8):
        panel.strength.set_value(share * maximum)
        let_live(0.3)
    camera.shoot("enhance-live")
    panel.badge.switch.setChecked(False)
    viewer.reset_view()

    panel.outputs.wants_labels.setChecked(True)
    panel.run()
    wait_for(lambda: panel.foot.run.isEnabled())
    let_live(1.0)
    camera.shoot("enhance-after")


def show_running(viewer: Any, camera: Camera, filter_id: str | None) -> None:
    viewer.layers.clear()
    ((pixels, kwargs, _),) = sample("nuclei")
    stack = np.repeat(pixels[np.newaxis], N_FRAMES, axis=0)
    viewer.add_image(stack, **{**kwargs, "axis_labels": ("time", *kwargs["axis_labels"])})
    panel = open_dock(viewer, filter_id)
    panel.outputs.wants_labels.setChecked(False)
    let_live(0.5)
    panel.run()
    wait_for(lambda: panel.foot.bar.value() >= N_FRAMES // 3 or panel.foot.run.isEnabled())
    camera.shoot("enhance-running")
    panel.foot.cancel.click()
    wait_for(lambda: panel.foot.run.isEnabled())
    let_live(0.5)
    camera.shoot("enhance-cancelled")


def show_histology(viewer: Any, camera: Camera, filter_id: str | None) -> None:
    viewer.layers.clear()
    viewer.open_sample(PLUGIN, "histology")
    panel = open_dock(viewer, filter_id)
    wait_for(lambda: bool(panel.image.dark_note.text()))
    panel.run()
    wait_for(lambda: panel.foot.run.isEnabled())
    let_live(0.5)
    camera.shoot("enhance-histology")


def show_measure(viewer: Any, camera: Camera, filter_id: str | None) -> None:
    from napari_cellenhance.core.postprocess import segment
    from napari_cellenhance.workflows.enhance import run
    from napari_cellenhance.workflows.requests import EnhanceRequest

    viewer.layers.clear()
    (source,) = viewer.open_sample(PLUGIN, "nuclei")
    place = {"scale": source.scale, "units": source.units}
    for name, chosen, strength in (("nuclei, NU-Net", filter_id or "nunet-guided", 5.0), ("nuclei, DoG", "dog", None)):
        result = run(EnhanceRequest(image=source.data, axes="YX", filter_id=chosen, strength=strength))
        metadata = {"cellenhance": result.provenance}
        viewer.add_image(result.image, name=name, metadata=metadata, colormap=source.colormap, **place)
    viewer.add_labels(segment(np.asarray(source.data)).astype(int), name="mask of the nuclei", visible=False, **place)
    _, panel = viewer.window.add_plugin_dock_widget(PLUGIN, MEASURE_DOCK)
    let_live(0.5)

    def finish() -> None:
        wait_for(lambda: panel._job is None)
        let_live(0.7)

    panel.run()
    finish()
    camera.shoot("measure-compare")
    panel.tabs.setCurrentWidget(panel.detect)
    panel.detect.measure.click()
    finish()
    panel.detect.truth.setCurrentIndex(1)
    panel.detect.sweep_button.click()
    finish()
    panel.detect.wants_outcome.setChecked(True)
    panel.form.tick(viewer.layers["nuclei, DoG"], False)
    panel.detect.sweep_button.click()
    finish()
    panel.detect.best_button.click()
    finish()
    viewer.layers["nuclei, DoG"].visible = False
    viewer.layers["nuclei true, false, missed"].visible = False
    let_live(0.5)
    camera.shoot("measure-detect")


def show_reference(viewer: Any, camera: Camera, filter_id: str | None) -> None:
    from napari_cellenhance.workflows.enhance import run
    from napari_cellenhance.workflows.requests import EnhanceRequest

    viewer.layers.clear()
    (source,) = viewer.open_sample(PLUGIN, "nuclei")
    place = {"scale": source.scale, "units": source.units, "colormap": source.colormap}
    clean = np.asarray(source.data, np.float32)
    noisy = clean + np.random.default_rng(0).normal(0.0, 15.0, clean.shape).astype(np.float32)
    viewer.add_image(noisy, name="noisy", **place)
    for chosen, title in (("median", "median"), ("gaussian", "Gauss")):
        result = run(EnhanceRequest(image=noisy, axes="YX", filter_id=chosen))
        metadata = {"cellenhance": result.provenance}
        viewer.add_image(result.image, name=title, metadata=metadata, **place)
    _, panel = viewer.window.add_plugin_dock_widget(PLUGIN, MEASURE_DOCK)
    panel.tabs.setCurrentWidget(panel.reference)
    panel.reference.tick(viewer.layers["noisy"])
    let_live(0.5)
    panel.run()
    wait_for(lambda: panel._job is None)
    let_live(0.7)
    camera.shoot("measure-reference")


def show_profile(viewer: Any, camera: Camera, filter_id: str | None) -> None:
    """Profiles of the clean nuclei, of the same made noisy, and denoised again."""
    from napari_cellenhance.workflows.python_denoise import denoise

    viewer.layers.clear()
    ((pixels, kwargs, _),) = sample("nuclei")
    clean = np.asarray(pixels, np.float32)
    noisy = make_noisy(clean)
    place = {key: kwargs[key] for key in ("scale", "units", "colormap") if key in kwargs}
    limits = tuple(float(v) for v in np.percentile(clean, (0.5, 99.8)))
    for name, image in (("clean", clean), ("noisy", noisy), ("denoised", denoise(noisy))):
        viewer.add_image(image, name=name, contrast_limits=limits, **place)
    _, panel = viewer.window.add_plugin_dock_widget(PLUGIN, MEASURE_DOCK)
    panel.tabs.setCurrentWidget(panel.profile)
    panel.profile.reference.choose(viewer.layers["clean"])
    panel.profile.line_width.setValue(3)
    panel.profile.draw.click()
    line = panel.profile.line.layer()
    line.add_lines(np.array([(250.0, 375.0), (293.0, 665.0)]))
    line.mode = "select"
    viewer.reset_view()
    wait_for(lambda: bool(panel.profile.plot.content.curves))
    let_live(1.0)
    camera.shoot("measure-profile")


def show_teach(viewer: Any, camera: Camera, filter_id: str | None) -> None:
    viewer.layers.clear()
    viewer.open_sample(PLUGIN, "nuclei")
    _, panel = viewer.window.add_plugin_dock_widget(PLUGIN, TEACH_DOCK)
    let_live(1.0)
    panel.images.current_form().new.click()
    paint_strokes(panel.images.current_form().labels.layer(), np.asarray(viewer.layers["nuclei"].data))
    panel.live.switch.setChecked(True)
    wait_for(lambda: panel.live.answer.layer is not None)
    answers: list[str] = []
    panel.live.answered.connect(lambda: answers.append(panel.live.badge.text()))
    panel.images.current_form().labels.layer().paint((30, 500), 1)
    wait_for(lambda: bool(answers))
    let_live(1.0)
    camera.shoot("teach-live")
    panel.settings.time.setCurrentIndex(panel.settings.time.count() - 1)
    panel.settings.n_steps.setValue(TEACH_STEPS)
    panel.train()
    wait_for(lambda: len(panel.view.rows) >= TEACH_STEPS // 2 or panel._job is None, timeout_s=3600)
    let_live(0.5)
    camera.shoot("teach-progress")
    wait_for(lambda: panel._job is None, timeout_s=3600)
    let_live(1.0)
    camera.shoot("teach")
    panel.tabs.setCurrentIndex(3)
    panel.segment.boxes["translated"].setChecked(True)
    panel.segment.run()
    wait_for(lambda: panel.segment._job is None)
    let_live(1.0)
    camera.shoot("teach-segment")


def show_denoise(viewer: Any, camera: Camera, filter_id: str | None) -> None:
    viewer.layers.clear()
    ((pixels, kwargs, _),) = sample("nuclei")
    noisy = make_noisy(pixels)
    limits = tuple(float(v) for v in np.percentile(noisy, (0.5, 99.5)))
    viewer.add_image(noisy, **{**kwargs, "name": "noisy nuclei", "contrast_limits": limits})
    viewer.reset_view()
    viewer.scene.camera.zoom *= 1.5
    _, panel = viewer.window.add_plugin_dock_widget(PLUGIN, DENOISE_DOCK)
    panel.tabs.setCurrentIndex(1)
    panel.settings.estimate.click()
    wait_for(lambda: panel._job is None)
    panel.settings.time.setCurrentIndex(0)
    let_live(1.0)
    camera.shoot("denoise-train")
    panel.settings.time.setCurrentIndex(panel.settings.time.count() - 1)
    panel.settings.n_steps.setValue(DENOISE_STEPS)
    panel.train()
    wait_for(lambda: panel.foot.bar.value() >= DENOISE_STEPS // 2 or panel._job is None, timeout_s=3600)
    let_live(0.5)
    camera.shoot("denoise-progress")
    wait_for(lambda: panel._job is None, timeout_s=3600)
    panel.tabs.setCurrentIndex(0)
    viewer.layers.remove(viewer.layers["noisy nuclei denoised"])
    panel.now.run()
    wait_for(lambda: panel.now._job is None)
    grid = getattr(viewer, "canvas", viewer).grid
    grid.shape, grid.enabled = (2, 1), True
    viewer.reset_view()
    let_live(1.0)
    camera.shoot("denoise")
    grid.enabled = False


def show_restored(viewer: Any, camera: Camera, filter_id: str | None) -> None:
    """Noisy nuclei restored with the model that comes along: where the result should not be trusted is marked."""
    viewer.layers.clear()
    ((pixels, kwargs, _),) = sample("nuclei")
    place = {"colormap": kwargs["colormap"], "scale": (PIXEL_UM, PIXEL_UM), "units": ("um", "um")}
    poor = make_noisy(pixels[:, : pixels.shape[1] // 2])
    limits = tuple(float(v) for v in np.percentile(poor, (0.5, 99.8)))
    source = viewer.add_image(poor, name="dim nuclei", contrast_limits=limits, **place)
    viewer.reset_view()
    _, panel = viewer.window.add_plugin_dock_widget(PLUGIN, RESTORE_DOCK)
    panel.now.run()
    wait_for(lambda: panel.now._job is None and "of the pixels" in panel.now.doubt.note.text())
    let_live(1.0)
    camera.shoot("restore-now")
    viewer.layers["dim nuclei do not trust"].visible = False
    viewer.layers["dim nuclei restored"].translate = (0.0, source.extent.world[1, 1] + 20 * PIXEL_UM)
    viewer.reset_view()
    let_live(1.0)
    camera.shoot("restore")


def show_restoring(viewer: Any, camera: Camera, filter_id: str | None) -> None:
    """One half of the nuclei teaches, made poor, while the other half is looked at."""
    viewer.layers.clear()
    ((pixels, kwargs, _),) = sample("nuclei")
    half = pixels.shape[1] // 2
    place = {"colormap": kwargs["colormap"], "scale": (PIXEL_UM, PIXEL_UM), "units": ("um", "um")}
    viewer.add_image(np.asarray(pixels[:, :half], np.float32), name="clean nuclei", visible=False, **place)
    poor = make_noisy(pixels[:, half:])
    limits = tuple(float(v) for v in np.percentile(poor, (0.5, 99.8)))
    viewer.add_image(poor, name="dim nuclei", contrast_limits=limits, **place)
    viewer.reset_view()
    _, panel = viewer.window.add_plugin_dock_widget(PLUGIN, RESTORE_DOCK)
    settings = panel.settings
    settings.data.clean.check(viewer.layers["clean nuclei"])
    panel.tabs.setCurrentIndex(1)
    settings.microscope.na.setValue(0.75)
    settings.optics_fold.button.setChecked(True)
    wait_for(lambda: settings.look.view is not None)
    settings.look.another.click()
    let_live(1.0)
    camera.shoot("restore-teach")
    settings.time.setCurrentIndex(settings.time.count() - 1)
    settings.n_steps.setValue(RESTORE_STEPS)
    settings.patch_px.setValue(RESTORE_PATCH_PX)
    panel.train()
    wait_for(lambda: panel.foot.bar.value() >= RESTORE_STEPS // 2 or panel._job is None, timeout_s=3600)
    let_live(0.5)
    camera.shoot("restore-progress")
    wait_for(lambda: panel._job is None, timeout_s=3600)


def show_crops(viewer: Any, camera: Camera, filter_id: str | None) -> None:
    """Nuclei on a slide that is tilted, so that they are sharp on one side only; the curve, then the library."""
    viewer.layers.clear()
    ((pixels, kwargs, _),) = sample("nuclei")
    place = {"colormap": kwargs["colormap"], "scale": (PIXEL_UM, PIXEL_UM), "units": ("um", "um")}
    _, panel = viewer.window.add_plugin_dock_widget(PLUGIN, CROPS_DOCK)
    panel.form.segment.method.setCurrentIndex(1)
    panel.form.min_area.setValue(120)
    panel.form.max_area.setValue(2500)
    for name, image in (("slide 1", pixels), ("slide 2", pixels[::-1, ::-1])):
        tilted = tilt(np.asarray(image, np.float32))
        limits = tuple(float(v) for v in np.percentile(tilted, (0.5, 99.8)))
        layer = viewer.add_image(tilted, name=name, contrast_limits=limits, **place)
        panel.form.image.choose(layer)
        viewer.reset_view()
        let_live(1.0)
        panel.run()
        wait_for(lambda: panel._job is None)
        let_live(1.0)
        if name == "slide 1":
            low, high = panel.sorting.thresholds
            panel.sorting.set_thresholds(low, high)
            bar = panel.tabs.widget(0).verticalScrollBar()
            bar.setValue(bar.maximum())
            let_live(0.7)
            camera.shoot("crops-find")
        panel.add_found()
        layer.visible = False
    panel.tabs.setCurrentIndex(1)
    wanted = panel.page.grids["target"]
    wanted.setFocus()
    wanted.select(wanted.numbers[2:3])
    let_live(1.0)
    camera.shoot("crops-library")


def add_two_depths(viewer: Any) -> tuple[Any, int]:
    """Nuclei of the left half of the sample, with blurred ones of the right half over them; the sample, its middle."""
    viewer.layers.clear()
    ((pixels, kwargs, _),) = sample("nuclei")
    image = np.asarray(pixels, np.float32)
    half = image.shape[1] // 2
    mixed = image[:, :half] + blurred(image[::-1, half : 2 * half])
    place = {"colormap": kwargs["colormap"], "scale": (PIXEL_UM, PIXEL_UM), "units": ("um", "um")}
    limits = tuple(float(v) for v in np.percentile(mixed, (0.5, 99.8)))
    viewer.add_image(mixed, name="two depths", contrast_limits=limits, **place)
    return image, half


def show_kept(viewer: Any, camera: Camera, filter_id: str | None) -> None:
    """The filter that comes along: nuclei in focus without the light of those that are not."""
    _, half = add_two_depths(viewer)
    _, panel = viewer.window.add_plugin_dock_widget(PLUGIN, KEEP_DOCK)
    panel.now.boxes["labels"].setChecked(False)
    panel.now.objects_fold.button.setChecked(False)
    let_live(0.5)
    panel.now.run()
    wait_for(lambda: panel.now._job is None)
    step = (half + 12) * PIXEL_UM
    for number, name in enumerate(("two depths kept", "two depths everything else"), start=1):
        viewer.layers[name].visible = True
        viewer.layers[name].translate = (0.0, number * step)
    viewer.reset_view()
    let_live(1.0)
    camera.shoot("keep")


def show_keep(viewer: Any, camera: Camera, filter_id: str | None) -> None:
    """Sharp nuclei and blurred ones over each other: crops of the right half teach to keep the sharp ones."""
    from napari_cellenhance.io.crop_folders import write_crops

    image, half = add_two_depths(viewer)
    _, panel = viewer.window.add_plugin_dock_widget(PLUGIN, KEEP_DOCK)
    with tempfile.TemporaryDirectory() as folder:
        settings = panel.settings
        settings.crops.folder.setText(str(write_crops(Path(folder) / "sharp", sharp_and_blurred(image[:, half:]))))
        settings.crops.scenes.image_px.setValue(KEEP_PX)
        panel.tabs.setCurrentIndex(1)
        wait_for(lambda: settings.crops.look.made is not None)
        let_live(1.5)
        camera.shoot("keep-teach")
        finish_training(panel, camera, KEEP_STEPS, "keep-progress")
    panel.tabs.setCurrentIndex(0)
    panel.now.objects_fold.button.setChecked(True)
    form = panel.now.objects.forms[False]
    form.openings.setValue(1)
    form.min_size.setValue(40)
    panel.now.boxes["boxes"].setChecked(True)
    panel.now.candidates_fold.button.setChecked(True)
    let_live(2.0)
    panel.now.candidates.search.click()
    let_live(0.5)
    bar = panel.tabs.widget(0).verticalScrollBar()
    bar.setValue(bar.maximum())
    let_live(0.5)
    camera.shoot("keep-candidates")
    bar.setValue(0)
    viewer.layers["two depths kept"].translate = (0.0, (half + 20) * PIXEL_UM)
    viewer.layers["two depths objects"].translate = (0.0, (half + 20) * PIXEL_UM)
    viewer.reset_view()
    let_live(1.0)
    camera.shoot("keep-taught")


def show_movie(viewer: Any, camera: Camera, filter_id: str | None) -> None:
    """Dark worms on a scene that stands still."""
    viewer.layers.clear()
    frames = worms()
    viewer.add_image(frames, name="worms", axis_labels=("t", "y", "x"))
    viewer.reset_view()
    _, panel = viewer.window.add_plugin_dock_widget(PLUGIN, KEEP_DOCK)
    settings = panel.settings
    panel.tabs.setCurrentIndex(1)
    settings.way.setCurrentIndex(1)
    settings.movie.movies.check(viewer.layers["worms"])
    settings.movie.lag.setValue(2)
    settings.patch_px.setValue(KEEP_PX)
    wait_for(lambda: settings.movie.look.made is not None)
    let_live(1.5)
    camera.shoot("keep-movie-teach")
    panel.now.objects.forms[True].min_size.setValue(60)
    panel.now.objects.forms[True].threshold.setValue(40)
    finish_training(panel, camera, MOVIE_STEPS, "keep-movie-progress")
    panel.tabs.setCurrentIndex(0)
    panel.now.objects_fold.button.setChecked(True)
    scene = viewer.layers["worms background"]
    scene.visible = True
    scene.translate = (0.0, 0.0, frames.shape[2] + 10.0)
    for name in ("worms what moves", "worms objects"):
        viewer.layers[name].translate = (0.0, frames.shape[1] + 10.0, 0.0)
    viewer.reset_view()
    let_live(1.0)
    camera.shoot("keep-movie")


def show_batch(viewer: Any, camera: Camera, filter_id: str | None) -> None:
    """A plate of twelve fields, one of them cut off: ready, under way, finished, a result with its source."""
    viewer.layers.clear()
    with tempfile.TemporaryDirectory() as folder:
        plate, out = Path(folder) / "plate1", Path(folder) / "plate1_out"
        make_plate(plate)
        _, panel = viewer.window.add_plugin_dock_widget(PLUGIN, BATCH_DOCK)
        panel.recipe.filters.choose(filter_id or "nunet-guided")
        panel.recipe.strength.set_value(5.0)
        panel.recipe.outputs.wants_labels.setChecked(True)
        panel.recipe.measure.setChecked(True)
        panel.images.source.line.setText(str(plate))
        panel.target.line.setText(str(out))
        wait_for(panel.foot.run.isEnabled)
        let_live(0.5)
        camera.shoot("batch-setup")
        panel.run()
        rows = panel.files.table.model.rows
        wait_for(lambda: sum(row.stage == "done" for row in panel.files.table.model.rows) >= len(rows) // 3)
        panel.files.open.click()
        wait_for(lambda: len(viewer.layers) == 3)
        viewer.reset_view()
        camera.shoot("batch-running")
        wait_for(lambda: panel._job is None)
        panel.files.table.view.selectRow([row.stage for row in panel.files.table.model.rows].index("failed"))
        let_live(0.5)
        camera.shoot("batch")
        viewer.layers.clear()


def show_recipes(viewer: Any, camera: Camera, filter_id: str | None) -> None:
    """Nuclei denoised, then enhanced: the button under the message, and the recipe in words over the window."""
    viewer.layers.clear()
    nuclei = viewer.add_image(sample("nuclei")[0][0], name="nuclei", scale=(PIXEL_UM, PIXEL_UM), units=("um", "um"))
    panel = open_dock(viewer, "n2v2-fluorescence")
    panel.select(nuclei)
    panel.run()
    wait_for(lambda: panel._job is None)
    panel.filters.choose(filter_id or "nunet-guided")
    panel.select(viewer.layers["nuclei enhanced"])
    panel.run()
    wait_for(lambda: panel._job is None)
    panel.foot.recipe.menu().popup(panel.foot.recipe.mapToGlobal(panel.foot.recipe.rect().bottomLeft()))
    let_live(0.5)
    screen = viewer.window._qt_window.screen().grabWindow(0)
    corner = panel.foot.mapToGlobal(panel.foot.rect().topLeft())
    screen = screen.copy(corner.x() - 8, corner.y() - 8, panel.width() + 16, panel.foot.height() + 130)
    screen.save(str(camera.folder / "recipe-menu.png"))
    panel.foot.recipe.menu().hide()
    panel.foot.recipe._show()
    let_live(0.5)
    (dialog,) = [w for w in QApplication.topLevelWidgets() if type(w).__name__ == "RecipeDialog"]
    dialog.python.click()
    let_live(0.2)
    dialog.grab().save(str(camera.folder / "recipe.png"))
    dialog.close()
    viewer.layers.clear()


def show_models(viewer: Any, camera: Camera, filter_id: str | None) -> None:
    """All models with the card of one; then what each makes of the nuclei on screen."""
    viewer.layers.clear()
    viewer.open_sample(PLUGIN, "nuclei")
    _, panel = viewer.window.add_plugin_dock_widget(PLUGIN, "Models")
    panel.models.choose("care-nuclei")
    viewer.scene.camera.zoom *= 1.8
    let_live(0.5)
    camera.shoot("models")
    panel.tabs.setCurrentIndex(1)
    panel.try_all()
    wait_for(lambda: panel._job is None)
    let_live(0.5)
    camera.shoot("models-on-my-image")


def make_plate(folder: Path) -> None:
    """Overlapping fields of the sample of nuclei; the seventh file is cut off."""
    from napari_cellenhance.io.images import write

    folder.mkdir()
    ((pixels, _, _),) = sample("nuclei")
    for number in range(12):
        row, column = divmod(number, 4)
        y, x = row * PLATE_STEP_PX, column * PLATE_STEP_PX
        field = np.ascontiguousarray(np.asarray(pixels)[y : y + PLATE_PX, x : x + PLATE_PX])
        path = folder / f"B{row + 2:02d}_field{column + 1}.tif"
        write(path, field, "YX", dtype="keep", pixel_size_um={"Y": PIXEL_UM, "X": PIXEL_UM})
        if number == 6:
            path.write_bytes(path.read_bytes()[:3000])


def finish_training(panel: Any, camera: Camera, n_steps: int, name: str) -> None:
    """Teach with a few updates, and take a picture half-way."""
    settings = panel.settings
    settings.time.setCurrentIndex(settings.time.count() - 1)
    settings.n_steps.setValue(n_steps)
    settings.batch.setValue(4)
    settings.learning_rate.setValue(KEEP_RATE)
    panel.train()
    wait_for(lambda: panel.foot.bar.value() >= n_steps // 2 or panel._job is None, timeout_s=3600)
    let_live(0.5)
    camera.shoot(name)
    wait_for(lambda: panel._job is None, timeout_s=3600)
    let_live(0.5)


def blurred(image: Any) -> Any:
    """As far out of focus."""
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(np.asarray(image, np.float32), 5.0)


def show_compare(viewer: Any, camera: Camera, filter_id: str | None) -> None:
    viewer.layers.clear()
    ((pixels, kwargs, _),) = sample("nuclei")
    viewer.add_image(pixels, **{**kwargs, "scale": (PIXEL_UM, PIXEL_UM), "units": ("um", "um")})
    dock = open_dock(viewer, filter_id)
    dock.outputs.wants_labels.setChecked(False)
    dock.run()
    wait_for(lambda: dock.foot.run.isEnabled())
    viewer.window.remove_dock_widget(dock)
    viewer.layers.selection.active = viewer.layers["nuclei enhanced"]
    _, panel = viewer.window.add_plugin_dock_widget(PLUGIN, COMPARE_DOCK)
    let_live(1.0)
    viewer.reset_view()
    panel.look.look("wipe")
    let_live(0.5)
    camera.shoot("compare-wipe")
    panel.look.look("side")
    let_live(0.5)
    camera.shoot("compare-side")
    panel.look.look("off")
    panel.run()
    wait_for(lambda: panel.foot.run.isEnabled())
    let_live(0.5)
    camera.shoot("compare-difference")
    viewer.layers.remove("nuclei enhanced − nuclei")
    panel.tabs.setCurrentWidget(panel.numbers)
    panel.run()
    wait_for(lambda: panel.foot.run.isEnabled())
    let_live(0.5)
    camera.shoot("compare-numbers")
    panel.tabs.setCurrentWidget(panel.figure)
    path = camera.folder / "compare-figure.png"
    panel.figure.save(str(path))
    wait_for(lambda: panel.foot.run.isEnabled())
    figure = Image.open(path).convert("RGB")
    figure.resize([round(n * FIGURE_SHARE) for n in figure.size], Image.Resampling.LANCZOS).save(path, optimize=True)
    path.with_name(f"{path.name}.json").unlink()
    viewer.window.remove_dock_widget(panel)


def show_trust(viewer: Any, camera: Camera, filter_id: str | None) -> None:
    """A result in which one nucleus was painted out, and one that is nowhere painted in."""
    viewer.layers.clear()
    ((pixels, kwargs, _),) = sample("nuclei")
    viewer.add_image(pixels[:256, :256], **{**kwargs, "scale": (PIXEL_UM, PIXEL_UM), "units": ("um", "um")})
    dock = open_dock(viewer, filter_id)
    dock.outputs.wants_labels.setChecked(False)
    dock.run()
    wait_for(lambda: dock.foot.run.isEnabled())
    viewer.window.remove_dock_widget(dock)
    result = viewer.layers["nuclei enhanced"]
    result.data = tampered(result.data)
    _, panel = viewer.window.add_plugin_dock_widget(PLUGIN, COMPARE_DOCK)
    panel.look_at_trust(result)
    panel.trust.maps.setChecked(True)
    panel.run()
    wait_for(lambda: panel.foot.run.isEnabled())
    viewer.layers.selection.active = viewer.layers["nuclei enhanced: objects in one only"]
    viewer.reset_view()
    let_live(1.0)
    camera.shoot("trust")
    viewer.window.remove_dock_widget(panel)


def tampered(image: Any) -> Any:
    """Without its largest round object, which appears again where there is most room."""
    from scipy.ndimage import binary_dilation, distance_transform_edt, label, shift

    image = np.array(image, np.float32)
    labels, n = label(image > 0.5)
    inner = [i for i in range(1, n + 1) if not set(np.flatnonzero(labels == i) % image.shape[1]) & {0, 1}]
    areas = {i: int((labels == i).sum()) for i in inner}
    chosen = labels == sorted(areas, key=areas.__getitem__)[len(areas) // 2]
    ground = np.pad(~binary_dilation(labels > 0, iterations=3), 1)
    room = distance_transform_edt(ground)[1:-1, 1:-1]
    target = np.unravel_index(int(np.argmax(room)), room.shape)
    place = binary_dilation(chosen, iterations=4)
    piece = np.where(place, image, 0)
    centre = [float(one.mean()) for one in np.nonzero(chosen)]
    image[place] = float(np.median(image))
    moved = shift(piece, [t - c for t, c in zip(target, centre, strict=True)], order=1)
    return np.maximum(image, moved)


def sharp_and_blurred(image: Any) -> Any:
    """Crops of nuclei as they are, the same out of focus, and the image between them."""
    from scipy.ndimage import binary_dilation

    from napari_cellenhance.core.crops import Background, CropSet, ObjectCrop
    from napari_cellenhance.core.postprocess import label_boxes, segment

    labels = segment(image, min_size_px=80)
    ground = float(np.median(image[labels == 0]))
    target, unwanted, margin = [], [], 12
    for number, corners in enumerate(label_boxes(labels), start=1):
        (y0, x0), (y1, x1) = (int(v) for v in corners[0] + 0.5), (int(v) for v in corners[2] + 0.5)
        mask = labels[y0:y1, x0:x1] == number
        pixels = np.where(mask, image[y0:y1, x0:x1], 0).astype(np.float32)
        target.append(ObjectCrop(pixels=pixels, mask=mask, source="right half", box=(y0, x0, y1, x1)))
        soft = blurred(np.pad(np.where(mask, pixels - ground, 0), margin)).clip(0)
        seen = soft > 0.05 * soft.max()
        box = (y0 - margin, x0 - margin, y1 + margin, x1 + margin)
        unwanted.append(ObjectCrop(pixels=np.where(seen, soft, 0), mask=seen, source="right half", box=box))
    empty = Background(
        pixels=image.astype(np.float32), mask=binary_dilation(labels > 0, iterations=4), source="right half"
    )
    return CropSet(target=tuple(target), unwanted=tuple(unwanted), backgrounds=(empty,))


def worms(n_frames: int = 12, side: int = 160, n_worms: int = 5) -> Any:
    """Dark bent worms that crawl over a scene that stands still."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(0)
    scene = 170 + 30 * gaussian_filter(rng.normal(size=(side, side)), 6) * 6 + 8 * rng.normal(size=(side, side))
    frames = np.repeat(scene[None], n_frames, axis=0) + rng.normal(0, 2, (n_frames, side, side))
    along = np.linspace(-14, 14, 120)
    for _ in range(n_worms):
        start, heading, phase = rng.uniform(20, side - 20, 2), rng.uniform(0, 2 * np.pi), rng.uniform(0, 2 * np.pi)
        for t in range(n_frames):
            middle = start + 11 * t * np.array([np.sin(heading), np.cos(heading)])
            bend = 3 * np.sin(along / 5 + phase + t)
            y = (middle[0] + along * np.sin(heading) + bend * np.cos(heading)) % side
            x = (middle[1] + along * np.cos(heading) - bend * np.sin(heading)) % side
            line = np.zeros((side, side))
            line[y.astype(int), x.astype(int)] = 1
            frames[t] -= 90 * (gaussian_filter(line, 2.2) > 0.05)
    return frames.clip(0, 255).astype(np.uint8)


def tilt(pixels: Any) -> Any:
    """Blur that grows from left to right, as on a slide that is tilted under the objective."""
    from scipy.ndimage import gaussian_filter

    blurs = (0.0, 1.5, 3.0, 4.5)
    levels = np.stack([gaussian_filter(pixels, blur) for blur in blurs])
    at = np.linspace(0, len(blurs) - 1, pixels.shape[1])
    low = np.minimum(at.astype(int), len(blurs) - 2)
    share = (at - low).astype(np.float32)
    columns = np.arange(pixels.shape[1])
    return (1 - share) * levels[low, :, columns].T + share * levels[low + 1, :, columns].T


def make_noisy(pixels: Any) -> Any:
    """Shot noise of few photons, and read noise."""
    rng = np.random.default_rng(0)
    noisy = rng.poisson(np.asarray(pixels, np.float32) * GAIN) / GAIN + rng.normal(0, READ_NOISE, pixels.shape)
    return noisy.astype(np.float32)


def paint_strokes(layer: Any, image: Any) -> None:
    """Paint some strokes on nuclei and some beside them, with the brush of the layer."""
    from napari_cellenhance.core.postprocess import segment
    from napari_cellenhance.core.strokes import simulate_strokes

    strokes = simulate_strokes((segment(image) > 0).astype(int) + 1, "some", seed=3)
    for value in (1, 2):
        for point in np.argwhere(strokes == value)[::7]:
            layer.paint(tuple(int(v) for v in point), value)


def sample(key: str) -> Any:
    from napari_cellenhance import _sample_data

    return getattr(_sample_data, key)()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parents[1] / "docs" / "images", help="folder of the pictures"
    )
    parser.add_argument("--filter", default=None, help="id of the filter; default: the first of the list")
    parser.add_argument("--only", default=None, help="part of the name of the scenes to play: teach")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as models:
        os.environ.setdefault(MODELS_VARIABLE, models)  # what is trained for a picture is not a model of the user
        take(arguments)


def take(arguments: argparse.Namespace) -> None:
    """Play the scenes and save their pictures."""
    import napari

    viewer = napari.Viewer(title="napari", show=True)
    viewer.window.resize(*SIZE)
    camera = Camera(viewer, arguments.out)
    scenes = (
        show_nuclei,
        show_running,
        show_histology,
        show_measure,
        show_profile,
        show_reference,
        show_compare,
        show_trust,
        show_teach,
        show_denoise,
        show_restored,
        show_restoring,
        show_crops,
        show_kept,
        show_keep,
        show_movie,
        show_batch,
        show_recipes,
        show_models,
    )
    for show in scenes if arguments.only is None else [scene for scene in scenes if arguments.only in scene.__name__]:
        show(viewer, camera, arguments.filter)
    viewer.close()


if __name__ == "__main__":
    main()
