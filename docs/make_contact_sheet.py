"""Contact sheet of held-out images: input, DoG, NU-Net at three strengths.

Usage: python docs/make_contact_sheet.py --data-root DATA --out docs/images/nunet-contact-sheet.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.tiling import Region
from napari_cellenhance.io.labelled import LabelledImage
from napari_cellenhance.workflows import enhance
from napari_cellenhance.workflows.catalog import open_enhancer
from napari_cellenhance.workflows.evaluate import EvaluateRequest, read_images, with_noise
from napari_cellenhance.workflows.requests import EnhanceRequest

ROOT = Path(__file__).resolve().parents[1]
SIDE = 192
N_COLUMNS = 2
HEADER = 18


def _window(image: NDArray[np.float32]) -> Region:
    """Central window; the filters still see the whole plane."""
    height, width = (min(SIDE, n) for n in image.shape)
    y, x = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return Region(y, y + height, x, x + width)


def _tile(image: NDArray[np.float32], window: Region) -> NDArray[np.float32]:
    out = np.zeros((SIDE, SIDE), np.float32)
    part = np.clip(image[window.slices], 0, 1)
    out[: part.shape[0], : part.shape[1]] = part
    out[:, -1] = out[-1] = 0.4
    return out


def _chosen(images: list[LabelledImage], n_images: int) -> list[LabelledImage]:
    """``n_images`` different images of all kinds; every second one is shown with noise."""
    shares = {"dsb2018 fluorescence": 0.6, "dsb2018 histology": 0.28, "dsb2018 bright field": 0.12}
    chosen: list[LabelledImage] = []
    for source, share in shares.items():
        same = [image for image in images if image.source == source]
        count = min(len(same), max(1, round(n_images * share)))
        places = np.unique(np.linspace(0, len(same) - 1, count).astype(int))
        chosen += [with_noise(same[i], "medium noise", 0) if k % 2 else same[i] for k, i in enumerate(places)]
    return chosen


def main() -> None:
    parser = argparse.ArgumentParser(description="Contact sheet of held-out images.")
    parser.add_argument("--data", default=str(ROOT / "training" / "nunet-test.json"))
    parser.add_argument("--data-root", required=True)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images" / "nunet-contact-sheet.png")
    parser.add_argument("--model", default="nunet-guided")
    parser.add_argument("--n-images", type=int, default=24)
    parser.add_argument("--strengths", type=float, nargs=3, default=(2.5, 5.0, 10.0))
    options = parser.parse_args()

    from PIL import Image, ImageDraw

    images, _ = read_images(
        EvaluateRequest(data=(options.data,), data_root=options.data_root, max_images=options.n_images)
    )
    filters = [("dog", 4.0), *((options.model, w) for w in options.strengths)]
    opened = {name: open_enhancer(name) for name, _ in filters}
    rows = []
    for test in _chosen(images, options.n_images):
        window = _window(test.image)
        low, high = np.percentile(test.image, [0.1, 99.9])
        tiles = [_tile((test.image - low) / max(high - low, 1e-6), window)]
        for name, strength in filters:
            asked = EnhanceRequest(image=test.image, axes="YX", filter_id=name, strength=strength)
            out = np.asarray(enhance.apply(asked, opened[name]).image, np.float32)
            tiles.append(_tile(out / max(float(np.percentile(out, 99.9)), 1e-6) if name == "dog" else out, window))
        rows.append(np.hstack(tiles))
    per_column = -(-len(rows) // N_COLUMNS)
    rows += [np.zeros_like(rows[0])] * (per_column * N_COLUMNS - len(rows))
    columns = [np.vstack(rows[i * per_column : (i + 1) * per_column]) for i in range(N_COLUMNS)]
    sheet = np.pad(np.hstack(columns), ((HEADER, 0), (0, 0)))
    picture = Image.fromarray((sheet * 255).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    titles = ["input", "DoG", *(f"{options.model} w={w:g}" for w in options.strengths)]
    for column in range(N_COLUMNS):
        for i, title in enumerate(titles):
            draw.text(((column * len(titles) + i) * SIDE + 4, 3), title, fill=255)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    picture.quantize(64).save(options.out, optimize=True)
    print(f"{options.out}: {len([r for r in rows if r.any()])} images, {options.out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
