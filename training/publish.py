"""Put a finished training into the package: weights, style bank, manifest entry with its scores.

Usage: python training/publish.py RUN_FOLDER MODEL_ID --scores scores.json --notes "…"
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from napari_cellenhance.zoo.cards import AssetCard, FileEntry
from napari_cellenhance.zoo.folders import bundled_dir
from napari_cellenhance.zoo.manifest import read_user_card, write_asset, write_entry
from napari_cellenhance.zoo.weights import load_state, save_state

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("run", type=Path, help="output folder of `cellenhance train nunet`")
    parser.add_argument("trained_id", help="id the training was run with")
    parser.add_argument("--id", default="nunet", help="id in the manifest")
    parser.add_argument("--version", default="1.0.0")
    parser.add_argument("--title", default="NU-Net")
    parser.add_argument("--default-strength", type=float, default=5.0)
    parser.add_argument("--first", action="store_true", help="list it before the others: the default filter")
    parser.add_argument("--with-bank", action="store_true", help="publish the style bank of this run too")
    parser.add_argument("--scores", type=Path, required=True, help="scores.json of `cellenhance evaluate nunet`")
    parser.add_argument("--notes", default="")
    options = parser.parse_args()

    rows = json.loads(options.scores.read_text(encoding="utf-8"))["rows"]
    rows = [row for row in rows if row["filter_id"] in ("raw", options.id)]
    card = read_user_card(options.run / f"{options.trained_id}.json")
    bundled = bundled_dir()
    bundled.mkdir(parents=True, exist_ok=True)
    weights = bundled / f"{options.id}-{options.version}.safetensors"
    state = load_state(options.run / card.file.name)
    save_state(weights, state, half=True, metadata={"id": options.id})
    training = {**card.training, "notes": options.notes} if options.notes else card.training
    entry = card.model_copy(
        update={
            "id": options.id,
            "version": options.version,
            "title": options.title,
            "file": FileEntry.of(weights, url=weights.name),
            "bundled": True,
            "strength": card.strength.model_copy(update={"default": options.default_strength}),
            "training": training,
            "scores": {"rows": rows},
        }
    )
    write_entry(ROOT / "weights_manifest.json", entry, is_first=options.first)

    for old in bundled.glob(f"{options.id}-[0-9]*.safetensors"):
        if old != weights:
            old.unlink()
    print(f"published {options.id} {options.version}: {weights.stat().st_size / 1e6:.2f} MB")
    if not options.with_bank:
        return
    bank = bundled / f"nunet-style-bank-{options.version}.safetensors"
    shutil.copyfile(options.run / "nunet-style-bank.safetensors", bank)
    for old in bundled.glob("nunet-style-bank-*.safetensors"):
        if old != bank:
            old.unlink()
    write_asset(
        ROOT / "weights_manifest.json",
        AssetCard(
            id="nunet-style-bank",
            title="NU-Net style bank",
            summary="Mean Gram matrices of 300 blob masks from the BBBC038 training split, by covered area.",
            version=options.version,
            file=FileEntry.of(bank, url=bank.name),
            license="CC0-1.0",
            bundled=True,
        ),
    )
    print("published the style bank")


if __name__ == "__main__":
    main()
