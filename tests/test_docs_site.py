"""The documentation site: model cards from the manifest, docstrings as Sphinx wants them, every page reachable."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
MANIFEST = ROOT / "weights_manifest.json"


def _extension(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, DOCS / "_ext" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_model_has_a_card_with_what_matters(tmp_path: Path) -> None:
    (tmp_path / "gone.md").write_text("of a model that is no longer there")
    names = _extension("model_cards").write_pages(MANIFEST, tmp_path)
    models = json.loads(MANIFEST.read_text(encoding="utf-8"))["models"]
    assert names == [model["id"] for model in models]
    assert {page.stem for page in tmp_path.glob("*.md")} == {*names, "index"}
    for model in models:
        card = (tmp_path / f"{model['id']}.md").read_text(encoding="utf-8")
        for fact in (model["file"]["sha256"], model["license"], model["citation"], model["training"]["hardware"]):
            assert fact in card
        assert f"| seed | {model['training']['fit']['seed']} |" in card
        assert card.count("|---|") >= 4, "facts, data, training and scores"
        assert f"[{model['title']}]({model['id']}.md)" in (tmp_path / "index.md").read_text(encoding="utf-8")


def test_a_card_shows_scores_as_a_table_and_says_what_it_leaves_out(tmp_path: Path) -> None:
    model = json.loads(MANIFEST.read_text(encoding="utf-8"))["models"][0]
    rows = [{"images": f"set {i}", "f1": 0.123456, "a|b": "c|d"} for i in range(50)]
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps({"models": [{**model, "scores": {"mae": 0.25, "rows": rows}}]}), encoding="utf-8")
    _extension("model_cards").write_pages(manifest, tmp_path / "pages")
    card = (tmp_path / "pages" / f"{model['id']}.md").read_text(encoding="utf-8")
    assert "| mae | 0.25 |" in card and "| set 0 | 0.1235 | c\\|d |" in card
    assert "set 39" in card and "set 40" not in card and "10 more rows" in card


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("Mean |x − y| ([2]_).", r"Mean \|x − y\| ([2])."),
        ("  .. [1] Otsu 1979, |x|.", r"  | [1] Otsu 1979, \|x\|."),
        ("``a | b`` and `c | d`", "``a | b`` and `c | d`"),
        (">>> a | b", ">>> a | b"),
    ],
)
def test_docstrings_become_text_that_sphinx_understands(line: str, expected: str) -> None:
    assert _extension("docstrings").repaired([line]) == [expected]


def test_every_page_can_be_reached_from_the_start() -> None:
    listed = re.findall(r"^```\{toctree\}.*?^```", (DOCS / "index.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)
    names = set(re.findall(r"^([a-z0-9_/-]+)$", "\n".join(listed), re.MULTILINE))
    pages = {page.relative_to(DOCS).with_suffix("").as_posix() for page in DOCS.rglob("*.md")}
    written = {page for page in pages if not page.startswith(("_build/", "models/", "api/")) and page != "index"}
    assert written - names == set(), "docs/index.md does not lead there"
    assert names - written <= {"models/index"}


def test_every_public_call_is_listed() -> None:
    import napari_cellenhance

    listed = set(re.findall(r"^   ([a-z0-9_]+)$", (DOCS / "api.md").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(napari_cellenhance.__all__) - {"__version__"} <= listed
