"""Score a semantic filter on synthetic scenes of crops that it never saw, beside the scenes themselves.

Usage: python training/semantic_scores.py CROPS CARD.json OUT/scores.json
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from napari_cellenhance.core.recipes.semantic import CropPairs, SemanticTraining
from napari_cellenhance.core.synthetic_pairs import preset, scaling_of
from napari_cellenhance.io.crop_folders import read_crops
from napari_cellenhance.io.reports import write_json
from napari_cellenhance.workflows.separate import open_separator

N_SCENES = 128
SEEDS = (0, 1, 2)
SCENE = {"size_px": 96, "n_target": (2, 8)}


def main() -> None:
    folder, card, out = sys.argv[1:4]
    crops = read_crops(folder)
    scaling = scaling_of(crops, kind="p99")
    separator = open_separator(card, "cpu", "float32").separator
    rows = []
    for seed in SEEDS:
        training = SemanticTraining(validation_fraction=0.5, n_validation=N_SCENES)
        pairs = CropPairs(crops, replace(preset("dock").scene, **SCENE), scaling, training, seed)
        images = np.stack([image for image, _ in pairs.validation()])
        found = np.stack([separator.separate(image) for image in images])
        for name, outputs in (("scene", images), (Path(card).stem, found)):
            rows.append({"method": name, "seed": seed, "n_scenes": N_SCENES, **pairs.scores(outputs)})
            print(rows[-1])
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    write_json(out, {"rows": rows})


if __name__ == "__main__":
    main()
