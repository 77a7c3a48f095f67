"""The manifest: valid, and every name in it leads somewhere."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from npe2 import PluginManifest

import napari_cellenhance
from napari_cellenhance.widgets._commands import DOCK_TITLE
from napari_cellenhance.widgets._settings import DEVICES, PLUGIN, PluginSettings

MANIFEST = Path(napari_cellenhance.__file__).parent / "napari.yaml"
CONTRIBUTABLE = (
    "napari/layers/filter", "napari/layers/segment", "napari/layers/measure", "napari/layers/metadata", f"{PLUGIN}.",
)  # fmt: skip


@pytest.fixture(scope="module")
def manifest() -> PluginManifest:
    return PluginManifest.from_file(MANIFEST)


def test_every_python_name_can_be_imported(manifest: PluginManifest) -> None:
    for command in manifest.contributions.commands or []:
        module, _, name = str(command.python_name).partition(":")
        assert callable(getattr(importlib.import_module(module), name)), command.id


def test_every_contribution_has_its_command(manifest: PluginManifest) -> None:
    ids = {command.id for command in manifest.contributions.commands or []}
    used = {item.command for item in manifest.contributions.widgets or []}
    used |= {item.command for item in manifest.contributions.writers or []}
    used |= {getattr(item, "command", None) for item in manifest.contributions.sample_data or []}
    for items in manifest.contributions.menus.values():
        used |= {item.command for item in items if hasattr(item, "command")}
    assert used == ids


def test_no_title_says_the_name_of_the_plugin(manifest: PluginManifest) -> None:
    """napari writes it behind every title: “Show … (CellEnhance)” in menus and in the command palette."""
    assert [c.title for c in manifest.contributions.commands or [] if str(manifest.display_name) in c.title] == []


def test_menus_are_ones_that_napari_honours(manifest: PluginManifest) -> None:
    assert {"napari/layers/filter", "napari/layers/segment"} <= set(manifest.contributions.menus)
    for menu in manifest.contributions.menus:
        assert menu.startswith(CONTRIBUTABLE), menu


def test_preferences_have_the_defaults_of_the_code(manifest: PluginManifest) -> None:
    properties = manifest.contributions.configurations["general"].properties
    default = PluginSettings()
    assert {name: prop.default for name, prop in properties.items()} == {
        name: getattr(default, name) for name in PluginSettings.__slots__
    }
    assert tuple(properties["device"].enum) == DEVICES


def test_dock_title_is_the_one_of_the_commands(manifest: PluginManifest) -> None:
    titles = [widget.display_name for widget in manifest.contributions.widgets or []]
    assert titles[0] == DOCK_TITLE and len(set(titles)) == len(titles)


def test_palette_titles_say_what_they_do(manifest: PluginManifest) -> None:
    titles = [command.title for command in manifest.contributions.commands or []]
    assert len(set(titles)) == len(titles)
    assert all(title[0].isupper() and len(title.split()) >= 2 for title in titles)


def test_opening_the_panel_module_needs_no_torch() -> None:
    code = (
        "import sys, napari_cellenhance.widgets.enhance as e, napari_cellenhance._sample_data as s;"
        "e.list_filters(); s.nuclei();"
        "assert 'torch' not in sys.modules and 'skimage' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
