"""The schema, where the manifest is found, and the cards of the user."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from napari_cellenhance.core.errors import ManifestError, ModelNotFoundError
from napari_cellenhance.zoo import folders, manifest
from napari_cellenhance.zoo.cards import AssetCard, FileEntry, ModelCard
from napari_cellenhance.zoo.manifest import (
    MANIFEST_NAME,
    find_asset,
    find_model,
    list_models,
    load_manifest,
    manifest_path,
    read_manifest,
    user_card_bytes,
    write_asset,
    write_entry,
)

ROOT = Path(__file__).resolve().parents[2]
EMPTY = '{"schema_version": 1, "base_url": "", "models": [], "assets": []}'


def with_change(fields: dict[str, Any], where: str, value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(fields)
    *parents, last = where.split(".")
    target = changed
    for key in parents:
        target = target[key]
    target[last] = value
    return changed


def asset(**changes: Any) -> AssetCard:
    entry = {"name": "bank.safetensors", "url": "bank.safetensors", "sha256": "b" * 64, "size_bytes": 9}
    fields = {"id": "style-bank", "title": "Bank", "version": "1.0", "file": entry, "license": "CC0-1.0"}
    return AssetCard.model_validate({**fields, **changes})


def put_user_model(fields: dict[str, Any], **changes: Any) -> Path:
    folder = folders.user_models_dir()
    folder.mkdir(exist_ok=True)
    entry = {"name": f"{changes.get('id', fields['id'])}.safetensors", "url": None, "sha256": "c" * 64, "size_bytes": 3}
    card = ModelCard.model_validate({**fields, "file": entry, **changes})
    (folder / card.file.name).write_bytes(b"abc")
    path = folder / f"{card.id}.json"
    path.write_bytes(user_card_bytes(card))
    return path


def test_the_manifest_of_the_project_is_valid() -> None:
    own = read_manifest(ROOT / MANIFEST_NAME)
    assert own.schema_version == 1
    for card in (*own.models, *own.assets):
        if card.bundled:
            path = folders.bundled_dir() / card.file.name
            assert path.is_file(), f"{card.id} is called bundled but {path.name} is not in the package"
            assert folders.sha256_of(path) == card.file.sha256
            assert path.stat().st_size == card.file.size_bytes
    bundled = [path for path in folders.bundled_dir().iterdir() if path.suffix == ".safetensors"]
    listed = {card.file.name for card in (*own.models, *own.assets)}
    assert {path.name for path in bundled} <= listed, "a bundled file that no card names"
    assert sum(path.stat().st_size for path in bundled) <= 30_000_000


def test_a_card_survives_json(card_fields: dict[str, Any]) -> None:
    card = ModelCard.model_validate(card_fields)
    assert ModelCard.model_validate_json(card.model_dump_json()) == card
    assert card.strength.knots == (0.0, 5.0, 10.0)
    assert card.object_diameter_px == (15.0, 40.0)


def test_one_object_diameter_stands_for_both(card_fields: dict[str, Any]) -> None:
    card = ModelCard.model_validate(with_change(card_fields, "object_diameter_px", 20))
    assert card.object_diameter_px == (20.0, 20.0)


BAD_FIELDS = [
    ("surprise", 1),
    ("id", "Has Spaces"),
    ("id", "../up"),
    ("id", ""),
    ("title", ""),
    ("version", "newest"),
    ("version", ""),
    ("recipe", "magic-of-2031"),
    ("architecture", {"knots": []}),
    ("architecture", {"name": ["list"]}),
    ("axes", "XY"),
    ("license", ""),
    ("object_diameter_px", [40, 15]),
    ("object_diameter_px", [0, 15]),
    ("normalization", {"name": ""}),
    ("normalization.parameters", {"lo": float("nan")}),
    ("strength.minimum", -1),
    ("strength.default", 11),
    ("strength.maximum", 4),
    ("strength.maximum", float("inf")),
    ("strength.default", float("nan")),
    ("strength.identity_below", 11),
    ("strength.knots", [5, 0]),
    ("strength.knots", [0, 5, 5]),
    ("strength.knots", [0, 20]),
    ("strength.surprise", 1),
    ("file.sha256", "a" * 63),
    ("file.sha256", "A" * 64),
    ("file.sha256", ""),
    ("file.size_bytes", 0),
    ("file.size_bytes", -1),
    ("file.name", "weights.pt"),
    ("file.name", "../x.safetensors"),
    ("file.name", "/x.safetensors"),
    ("file.name", "C:x.safetensors"),
    ("file.name", "a\\x.safetensors"),
    ("file.name", "a/x.safetensors"),
    ("file.name", "..safetensors"),
    ("file.name", ".hidden.safetensors"),
    ("file.name", "CON.safetensors"),
    ("file.name", "a b.safetensors"),
    ("file.name", "x.safetensors\n"),
    ("file.name", "x" * 200 + ".safetensors"),
    ("file.url", "../x.safetensors"),
    ("file.url", "a/../../x.safetensors"),
    ("file.url", "/x.safetensors"),
    ("file.url", "file:///etc/passwd"),
    ("file.url", "ftp://example.org/x"),
    ("file.url", "https://"),
    ("file.url", ""),
    ("file.url", "a b"),
]


@pytest.mark.parametrize(("where", "value"), BAD_FIELDS)
def test_bad_fields_are_refused(card_fields: dict[str, Any], where: str, value: Any) -> None:
    with pytest.raises(ValidationError):
        ModelCard.model_validate(with_change(card_fields, where, value))


@pytest.mark.parametrize("missing", ["id", "version", "file", "license", "strength", "architecture"])
def test_missing_fields_are_refused(card_fields: dict[str, Any], missing: str) -> None:
    del card_fields[missing]
    with pytest.raises(ValidationError):
        ModelCard.model_validate(card_fields)


def test_file_entry_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"abc")
    entry = FileEntry.of(tmp_path / "x.safetensors", url="x.safetensors")
    assert (entry.name, entry.size_bytes, entry.sha256[:8]) == ("x.safetensors", 3, "ba7816bf")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("<html>", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ('{"schema_version": 1, "base_url": NaN}', "not valid JSON"),
        ("\xff", "not valid JSON"),
        ("[]", "does not follow the schema"),
        ("{}", "schema_version: Field required"),
        ('{"schema_version": 2}', "reads version 1. Update napari-cellenhance"),
        ('{"schema_version": 1, "surprise": 1}', "surprise"),
        ('{"schema_version": 1, "base_url": "file:///x"}', "base_url"),
        ('{"schema_version": 1, "models": [{}]}', r"models.0.* \(and \d+ more\)"),
    ],
)
def test_a_damaged_manifest_is_one_sentence(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / MANIFEST_NAME
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ManifestError, match=words) as caught:
        read_manifest(path)
    assert MANIFEST_NAME in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_manifest_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="cannot be read"):
        read_manifest(tmp_path / "none.json")
    with pytest.raises(ManifestError, match="Install napari-cellenhance again"):
        manifest_path(tmp_path)


def test_the_packaged_copy_wins_over_the_checkout(tmp_path: Path) -> None:
    package = tmp_path / "src" / "napari_cellenhance" / "zoo"
    package.mkdir(parents=True)
    (tmp_path / MANIFEST_NAME).write_text(EMPTY)
    assert manifest_path(package) == tmp_path / MANIFEST_NAME
    (package / MANIFEST_NAME).write_text(EMPTY)
    assert manifest_path(package) == package / MANIFEST_NAME


def test_a_copied_package_finds_its_own_manifest(tmp_path: Path) -> None:
    """As an installed wheel: another interpreter, no checkout above the package."""
    package = tmp_path / "site" / "napari_cellenhance"
    shutil.copytree(
        ROOT / "src" / "napari_cellenhance", package, ignore=shutil.ignore_patterns("__pycache__", "*.json")
    )
    (package / "zoo" / MANIFEST_NAME).write_text(EMPTY.replace('""', '"https://example.org/packaged"'))
    code = "from napari_cellenhance.zoo.manifest import load_manifest as f; print(f().base_url)"
    out = subprocess.run(
        [sys.executable, "-P", "-c", f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); {code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert out.stdout.strip() == "https://example.org/packaged"


def test_base_url_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / MANIFEST_NAME
    path.write_text(EMPTY.replace('""', '"https://example.org/models"'))
    assert load_manifest(path).base_url == "https://example.org/models"
    monkeypatch.setenv("CELLENHANCE_BASE_URL", "http://127.0.0.1:1/x")
    assert load_manifest(path).base_url == "http://127.0.0.1:1/x"


def test_write_entry_adds_then_replaces(tmp_path: Path, card_fields: dict[str, Any]) -> None:
    path = tmp_path / MANIFEST_NAME
    path.write_text(EMPTY)
    card = ModelCard.model_validate(card_fields)
    other = ModelCard.model_validate(
        with_change(with_change(card_fields, "id", "other"), "file.name", "other.safetensors")
    )
    write_entry(path, card)
    write_entry(path, other)
    write_entry(path, card.model_copy(update={"version": "1.1.0"}))
    write_asset(path, asset())
    own = read_manifest(path)
    assert [(c.id, c.version) for c in own.models] == [("tiny-net", "1.1.0"), ("other", "1.0.0")]
    assert [c.id for c in own.assets] == ["style-bank"]
    assert [p.name for p in tmp_path.iterdir()] == [MANIFEST_NAME]
    write_entry(path, other, is_first=True)
    assert [c.id for c in read_manifest(path).models] == ["other", "tiny-net"]


def test_write_entry_refuses_what_would_break_the_file(tmp_path: Path, card_fields: dict[str, Any]) -> None:
    path = tmp_path / MANIFEST_NAME
    path.write_text(EMPTY)
    card = ModelCard.model_validate(card_fields)
    write_entry(path, card)
    before = path.read_bytes()
    with pytest.raises(ManifestError, match=r"file name 'tiny.safetensors' occurs twice"):
        write_entry(path, card.model_copy(update={"id": "twin"}))
    with pytest.raises(ManifestError, match="'tiny-net' occurs twice"):
        write_asset(path, asset(id="tiny-net"))
    with pytest.raises(ManifestError, match="has no url"):
        write_entry(path, card.model_copy(update={"file": card.file.model_copy(update={"url": None})}))
    with pytest.raises(ManifestError, match="version"):
        write_entry(path, card.model_copy(update={"version": "nonsense"}))
    assert path.read_bytes() == before


def test_a_failing_write_keeps_the_old_manifest(
    tmp_path: Path, card_fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / MANIFEST_NAME
    path.write_text(EMPTY)

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folders.os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        write_entry(path, ModelCard.model_validate(card_fields))
    assert path.read_text() == EMPTY
    assert [p.name for p in tmp_path.iterdir()] == [MANIFEST_NAME]


def test_user_models_are_listed_after_the_own(card_fields: dict[str, Any]) -> None:
    put_user_model(card_fields, id="my-cells")
    put_user_model(card_fields, id="her-cells")
    assert [card.id for card in list_models() if card.file.url is None] == ["her-cells", "my-cells"]
    assert find_model("my-cells").title == "Tiny net"
    assert load_manifest().problems == ()


def test_one_damaged_card_does_not_hide_the_others(card_fields: dict[str, Any], tmp_path: Path) -> None:
    own = tmp_path / MANIFEST_NAME
    own.write_text(EMPTY)
    write_entry(own, ModelCard.model_validate(card_fields))
    put_user_model(card_fields, id="fine")
    folder = folders.user_models_dir()
    (folder / "a-broken.json").write_text('{"schema_version": 1, "model": ')
    (folder / "b-wrong.json").write_text('{"schema_version": 1, "model": {"id": "x"}}')
    (folder / "c-newer.json").write_text('{"schema_version": 9, "model": {}}')
    (folder / "d-folder.json").mkdir()
    put_user_model(card_fields, id="tiny-net")
    put_user_model(card_fields, id="no-weights")
    (folder / "no-weights.safetensors").unlink()
    shutil.copy(folder / "fine.json", folder / "z-copy.json")
    remote = with_change(card_fields, "id", "remote")
    (folder / "r-remote.json").write_text(json.dumps({"schema_version": 1, "model": remote}))

    found = load_manifest(own)
    assert [card.id for card in found.models] == ["tiny-net", "fine"]
    told = " ".join(found.problems)
    for name in ("a-broken", "b-wrong", "c-newer", "d-folder", "tiny-net", "no-weights", "z-copy", "r-remote"):
        assert f"{name}.json" in told
    assert len(found.problems) == 8


def test_an_unknown_id_lists_what_there_is(card_fields: dict[str, Any]) -> None:
    put_user_model(card_fields, id="my-cells")
    (folders.user_models_dir() / "broken.json").write_text("{")
    with pytest.raises(ModelNotFoundError, match=r"no model 'nonet'; there is: .*my-cells.*broken.json"):
        find_model("nonet")
    with pytest.raises(ModelNotFoundError, match="no asset 'nothing'"):
        find_asset("nothing")


def test_find_asset(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / MANIFEST_NAME
    path.write_text(EMPTY)
    write_asset(path, asset())
    monkeypatch.setattr(manifest, "manifest_path", lambda: path)
    assert find_asset("style-bank").license == "CC0-1.0"


def test_no_torch_and_no_network_to_list_models() -> None:
    code = (
        "import sys; from napari_cellenhance.zoo.manifest import list_models; list_models();"
        "print([m for m in ('torch', 'pooch', 'requests', 'napari', 'qtpy') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
