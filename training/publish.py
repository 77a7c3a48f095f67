"""Put a finished training into the package: weights, style bank, manifest entry with its scores.

Usage: python training/publish.py RUN_FOLDER MODEL_ID --scores scores.json --notes "…"
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import torch

from napari_cellenhance.core.models.nunet import NUNet, StrengthHead
from napari_cellenhance.zoo.cards import AssetCard, FileEntry
from napari_cellenhance.zoo.folders import bundled_dir
from napari_cellenhance.zoo.manifest import read_user_card, write_asset, write_entry
from napari_cellenhance.zoo.weights import load_state, save_state

ROOT = Path(__file__).resolve().parents[1]


N_KNOTS = 5
SLIDER_END = 10.0


def on_slider(state: dict[str, torch.Tensor], knots: list[float], strongest: float, slider: float) -> tuple[Any, ...]:
    """Keep the trained strengths up to ``strongest`` and give them the slider range up to ``slider``.

    The head is piecewise linear in the strength, so its values at new knots are its values: nothing is
    trained or lost here as long as the old knots in between are among the new ones.
    """
    network = NUNet(conditioning="head", knots=tuple(knots), output="sigmoid")
    network.load_state_dict(state)
    assert isinstance(network.head, StrengthHead)
    weakest = knots[0]
    trained = torch.linspace(weakest, strongest, N_KNOTS).tolist()
    inside = [k for k in knots if weakest < k < strongest]
    missing = [k for k in inside if min(abs(k - t) for t in trained) > 1e-6]
    if missing:
        raise SystemExit(
            f"the trained knots {missing} are not among the new ones {trained}; choose another --strongest"
        )
    with torch.no_grad():
        parts = [network.head.at(w) for w in trained]
        renewed = {
            **state,
            "head.gamma": torch.stack([p[0] for p in parts]),
            "head.beta": torch.stack([p[1] for p in parts]),
            "head.weight": torch.cat([p[2] for p in parts]),
            "head.bias": torch.cat([p[3] for p in parts]),
        }
    return renewed, tuple(round(w * slider / strongest, 6) for w in trained)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("run", type=Path, help="output folder of `cellenhance train nunet`")
    parser.add_argument("trained_id", help="id the training was run with")
    parser.add_argument("--id", default="nunet", help="id in the manifest")
    parser.add_argument("--version", default="1.0.0")
    parser.add_argument("--title", default="NU-Net")
    parser.add_argument("--default-strength", type=float, default=5.0)
    parser.add_argument("--strongest", type=float, default=4.0, help="trained strength that becomes the slider's end")
    parser.add_argument("--scores", type=Path, required=True, help="JSON of `cellenhance evaluate nunet`")
    parser.add_argument("--notes", default="")
    options = parser.parse_args()

    card = read_user_card(options.run / f"{options.trained_id}.json")
    bundled = bundled_dir()
    bundled.mkdir(parents=True, exist_ok=True)
    weights = bundled / f"{options.id}-{options.version}.safetensors"
    state = load_state(options.run / card.file.name)
    state, knots = on_slider(state, list(card.strength.knots), options.strongest, SLIDER_END)
    save_state(weights, state, half=True, metadata={"id": options.id})
    training = {**card.training, "notes": options.notes} if options.notes else card.training
    entry = card.model_copy(
        update={
            "id": options.id,
            "version": options.version,
            "title": options.title,
            "file": FileEntry.of(weights, url=weights.name),
            "bundled": True,
            "architecture": {**card.architecture, "knots": list(knots)},
            "strength": card.strength.model_copy(
                update={"default": options.default_strength, "knots": knots, "identity_below": knots[0]}
            ),
            "training": {**training, "loss_ratio_per_strength": options.strongest / SLIDER_END},
            "scores": {"rows": json.loads(options.scores.read_text(encoding="utf-8"))},
        }
    )
    write_entry(ROOT / "weights_manifest.json", entry)

    bank = bundled / f"nunet-style-bank-{options.version}.safetensors"
    shutil.copyfile(options.run / "nunet-style-bank.safetensors", bank)
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
    print(f"published {options.id} {options.version}: {weights.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
