"""A network of others in the Enhance dock: it is given the image as it is."""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from napari.components import ViewerModel

from napari_cellenhance.workflows.bioimageio import import_bioimageio


class Turned(torch.nn.Module):
    """Colours in reverse order."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flip(1)


def _package(path: Path) -> Path:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch plans another format
        torch.jit.save(torch.jit.trace(Turned(), torch.rand(1, 3, 8, 8), check_trace=False), buffer)
    colours = {"type": "channel", "channel_names": ["r", "g", "b"]}
    told = {
        "type": "model", "format_version": "0.5.4", "name": "Turned",
        "inputs": [{
            "id": "raw",
            "axes": [{"type": "batch"}, colours, *(
                {"type": "space", "id": axis, "size": {"min": 8, "step": 4}} for axis in "yx"
            )],
        }],
        "outputs": [{
            "id": "out",
            "axes": [{"type": "batch"}, colours, *(
                {"type": "space", "id": axis, "size": {"tensor_id": "raw", "axis_id": axis}} for axis in "yx"
            )],
        }],
        "weights": {"torchscript": {"source": "w.torchscript"}},
    }  # fmt: skip
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("bioimageio.yaml", yaml.safe_dump(told))
        archive.writestr("w.torchscript", buffer.getvalue())
    return path


def test_dark_objects_are_no_question_for_a_network_of_others(
    make_panel: Callable[[Any], Any], tmp_path: Path, qtbot: Any
) -> None:
    model_id = import_bioimageio(_package(tmp_path / "p.zip"), trust_torchscript=True)
    viewer = ViewerModel()
    stained = np.full((40, 44, 3), 230, np.uint8)
    stained[10:20, 10:20] = (90, 20, 120)
    viewer.add_image(stained, rgb=True)
    panel = make_panel(viewer)
    panel.image.dark.setChecked(True)
    assert panel.choices().objects_are_dark
    panel.filters.choose(model_id)
    assert not panel.image.dark.isEnabled() and not panel.choices().objects_are_dark
    panel.run()
    qtbot.waitUntil(lambda: panel.foot.run.isEnabled(), timeout=60000)
    assert "takes 3 channels at once" in panel.foot.message.text() and "set the channels to all" in (
        panel.foot.message.text()
    )
    panel.image.choose("YXS", "all")
    panel.run()
    qtbot.waitUntil(lambda: panel.foot.run.isEnabled(), timeout=60000)
    np.testing.assert_array_equal(viewer.layers[-1].data, stained[..., ::-1])
    panel.filters.choose("gaussian")
    assert panel.image.dark.isEnabled() and panel.choices().objects_are_dark
