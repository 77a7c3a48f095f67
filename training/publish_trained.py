"""Put a finished training into the package: weights, and a manifest entry with its scores on held-out images.

For AEP, denoisers, VoidSeg and StarDist; NU-Nets have publish.py.

Usage: python training/publish_trained.py RUN_FOLDER TRAINED_ID --id aep-nuclei --scores FOLDER/scores.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from napari_cellenhance.zoo.cards import FileEntry
from napari_cellenhance.zoo.folders import bundled_dir
from napari_cellenhance.zoo.manifest import read_user_card, write_entry
from napari_cellenhance.zoo.weights import load_state, save_state

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("run", type=Path, help="output folder of `cellenhance train …`")
    parser.add_argument("trained_id", help="id the training was run with")
    parser.add_argument("--id", required=True, help="id in the manifest")
    parser.add_argument("--version", default="1.0.0")
    parser.add_argument("--title", required=True)
    parser.add_argument("--summary", required=True)
    parser.add_argument("--license", default="BSD-3-Clause", help="of the weights")
    parser.add_argument("--scores", type=Path, required=True, help="scores.json of an evaluation, with a list of rows")
    parser.add_argument("--notes", default="")
    options = parser.parse_args()

    card = read_user_card(options.run / f"{options.trained_id}.json")
    weights = bundled_dir() / f"{options.id}-{options.version}.safetensors"
    save_state(weights, load_state(options.run / card.file.name), half=True, metadata={"id": options.id})
    rows = json.loads(options.scores.read_text(encoding="utf-8"))["rows"]
    training = {**card.training, "notes": options.notes} if options.notes else card.training
    entry = card.model_copy(
        update={
            "id": options.id,
            "version": options.version,
            "title": options.title,
            "summary": options.summary,
            "license": options.license,
            "file": FileEntry.of(weights, url=weights.name),
            "bundled": True,
            "training": training,
            "scores": {**card.scores, "test": rows},
        }
    )
    write_entry(ROOT / "weights_manifest.json", entry)
    for old in bundled_dir().glob(f"{options.id}-[0-9]*.safetensors"):
        if old != weights:
            old.unlink()
    print(f"published {options.id} {options.version}: {weights.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
