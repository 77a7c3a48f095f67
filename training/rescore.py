"""Put scores that were measured anew into the manifest entry of a NU-Net that is published already.

Usage: python training/rescore.py nunet scores/scores.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from napari_cellenhance.zoo.manifest import read_manifest, write_entry

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("id", help="id in the manifest")
    parser.add_argument("scores", type=Path, help="scores.json of `cellenhance evaluate nunet`")
    options = parser.parse_args()
    manifest = ROOT / "weights_manifest.json"
    card = next(card for card in read_manifest(manifest).models if card.id == options.id)
    rows = json.loads(options.scores.read_text(encoding="utf-8"))["rows"]
    rows = [row for row in rows if row["filter_id"] in ("raw", options.id)]
    write_entry(manifest, card.model_copy(update={"scores": {"rows": rows}}))


if __name__ == "__main__":
    main()
