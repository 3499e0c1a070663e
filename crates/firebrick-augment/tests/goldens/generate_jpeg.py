"""Pillow's JPEG of a picture, without subsampling of the colours, to be compared with another encoder's."""

import io
import json
import pathlib

import numpy as np
import PIL
import PIL.Image

SEED = 20261130
rng = np.random.default_rng(SEED)
y, x = np.mgrid[:21, :30]
slope = np.stack([x * 5, y * 8, (x + y) * 4], axis=-1) + 40 * np.sin(x / 3 + y / 5)[..., None]
picture = PIL.Image.fromarray(np.clip(slope + rng.integers(0, 40, size=(21, 30, 3)), 0, 255).astype(np.uint8))


def hexed(image):
    return np.asarray(image, dtype=np.uint8).tobytes().hex()


def stored(quality):
    file = io.BytesIO()
    picture.save(file, "jpeg", quality=quality, subsampling=0)
    return hexed(PIL.Image.open(file).convert("RGB"))


golden = {
    "made_by": "cargo xtask golden generate_jpeg", "seed": SEED, "versions": {"pillow": PIL.__version__, "numpy": np.__version__},
    "size": list(picture.size), "levels": hexed(picture),
    "cases": [{"quality": quality, "levels": stored(quality)} for quality in (5, 30, 50, 75, 95, 100)],
}
pathlib.Path(__file__).with_name("pil_jpeg.json").write_text(json.dumps(golden, indent=0) + "\n")
