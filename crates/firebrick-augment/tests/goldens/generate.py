"""Writes the golden files beside this script, from the libraries this crate is measured against.

    python crates/firebrick-augment/tests/goldens/generate.py

needs keras (with any backend), scipy, numpy and pillow; the versions used are written into the files.
"""

import json
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import PIL
import scipy
from keras.src.legacy.preprocessing.image import ImageDataGenerator
from PIL import Image

SEED = 20240229
COMMAND = "python crates/firebrick-augment/tests/goldens/generate.py"
FOLDER = Path(__file__).parent


def write(name, content):
    origin = {
        "command": COMMAND,
        "seed": SEED,
        "python": sys.version.split()[0],
        "keras": keras.__version__,
        "scipy": scipy.__version__,
        "numpy": np.__version__,
        "pillow": PIL.__version__,
    }
    text = json.dumps({"origin": origin, **content}, separators=(",", ":"))
    # A line for each case keeps differences readable.
    text = text.replace('{"image":', '\n{"image":')
    assert len(text) <= 50_000, f"{name} has {len(text)} bytes"
    (FOLDER / name).write_text(text + "\n")
    print(f"{name}: {len(text)} bytes")


def picture(rng, height, width):
    """Half noise, half one colour, so that both blending and constant regions are seen."""
    levels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    levels[: height // 3, width // 2 :] = (255, 3, 120)
    return levels


def flat(array):
    return np.asarray(array).ravel().tolist()


def single(value):
    """The nearest f32, which is what a draw holds."""
    return float(np.float32(value))


def keras_transforms(rng, fill_mode):
    images = [picture(rng, 11, 13), picture(rng, 13, 8), picture(rng, 9, 9)]
    draws = [
        (0, dict(theta=30)),
        (0, dict(tx=2.5, ty=-3.25)),
        (1, dict(shear=20)),
        (1, dict(zx=0.7, zy=1.6)),
        (0, dict(theta=-40, tx=1.9, ty=2.2, shear=0.2, zx=1.15, zy=0.85, flip_horizontal=True)),
        # Far outside, so that reflect and wrap go round more than once.
        (1, dict(theta=75, tx=-20.3, ty=17.7, zx=4.3, zy=3.7, flip_vertical=True)),
        (2, dict(theta=200, shear=-35, zx=0.4, zy=0.6, flip_horizontal=True, flip_vertical=True)),
        (0, dict(tx=4, ty=-6)),
        (1, dict(channel_shift=37.5, flip_horizontal=True)),
        (2, dict(theta=12, zx=1.9, zy=1.9, channel_shift=-61.25)),
        (2, dict(brightness=0.35, flip_vertical=True)),
        (1, dict(tx=-3, ty=5, channel_shift=20.5, brightness=1.7)),
    ]
    cval = 77.5
    generator = ImageDataGenerator(fill_mode=fill_mode, cval=cval, data_format="channels_last")
    cases = []
    for image, draw in draws:
        draw = {name: value if isinstance(value, bool) else single(value) for name, value in draw.items()}
        keras_draw = dict(draw)
        if "channel_shift" in draw:
            keras_draw["channel_shift_intensity"] = keras_draw.pop("channel_shift")
        result = generator.apply_transform(images[image].astype("float32"), keras_draw)
        cases.append({"image": image, "draw": draw, "result": flat(np.round(result.astype("float64"), 4))})
    write(
        f"keras_{fill_mode}.json",
        {
            "fill_mode": fill_mode,
            "cval": cval,
            "images": [{"height": i.shape[0], "width": i.shape[1], "levels": flat(i)} for i in images],
            "cases": cases,
        },
    )


def keras_outside_levels(rng):
    """A `cval` outside 0..255 makes Keras stretch the image before and after a brightness change."""
    image = picture(rng, 7, 6)
    cases = []
    for cval, draw in [
        (-40.0, dict(tx=1.0, brightness=0.5)),
        (300.0, dict(ty=2.0, brightness=1.25)),
        (-40.0, dict(tx=1.0, channel_shift=25.0, brightness=0.75)),
        (300.0, dict(brightness=0.5)),
    ]:
        keras_draw = dict(draw)
        if "channel_shift" in draw:
            keras_draw["channel_shift_intensity"] = keras_draw.pop("channel_shift")
        generator = ImageDataGenerator(fill_mode="constant", cval=cval, data_format="channels_last")
        result = generator.apply_transform(image.astype("float32"), keras_draw)
        cases.append(
            {"image": 0, "cval": cval, "draw": draw, "result": flat(np.round(result.astype("float64"), 4))}
        )
    write(
        "keras_outside_levels.json",
        {"images": [{"height": 7, "width": 6, "levels": flat(image)}], "cases": cases},
    )


def keras_normalization(rng):
    images = np.stack([picture(rng, 5, 7) for _ in range(3)])
    cases = []
    for settings in [
        dict(rescale=single(1 / 255)),
        dict(samplewise_center=True),
        dict(rescale=single(1 / 127.5), samplewise_std_normalization=True),
        dict(featurewise_center=True),
        dict(rescale=single(1 / 255), featurewise_std_normalization=True),
        dict(rescale=0.5, samplewise_center=True, featurewise_std_normalization=True),
    ]:
        generator = ImageDataGenerator(data_format="channels_last", **settings)
        generator.fit(images.astype("float32"))
        result = generator.standardize(images[1].astype("float32"))
        statistics = None
        if generator.mean is not None:
            std = np.std(images.astype("float64") * settings.get("rescale", 1.0), axis=(0, 1, 2))
            if generator.std is not None:
                std = generator.std
            statistics = {"mean": flat(generator.mean), "std": flat(std)}
        cases.append(
            {"image": 1, "settings": settings, "statistics": statistics, "result": flat(np.round(result, 6).astype("float64"))}
        )
    write(
        "keras_normalization.json",
        {"images": [{"height": 5, "width": 7, "levels": flat(i)} for i in images], "cases": cases},
    )


FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


def pil_resize(rng):
    # (height, width) of image and result.
    sizes = [
        ((17, 13), (7, 5)),
        ((5, 7), (16, 11)),
        ((1, 1), (3, 4)),
        ((9, 9), (1, 1)),
        ((19, 23), (8, 6)),
        ((3, 29), (9, 5)),
        ((12, 10), (12, 15)),
        ((6, 9), (9, 6)),
        # Sizes at which PIL takes the rows first.
        ((31, 6), (7, 9)),
        ((26, 12), (10, 9)),
        ((20, 20), (10, 10)),
    ]
    images, cases = [], []
    for index, (source, target) in enumerate(sizes):
        levels = picture(rng, *source)
        images.append({"height": source[0], "width": source[1], "levels": flat(levels)})
        for name, resample in FILTERS.items():
            result = Image.fromarray(levels).resize((target[1], target[0]), resample)
            cases.append(
                {
                    "image": index,
                    "height": target[0],
                    "width": target[1],
                    "interpolation": name,
                    "result": flat(result),
                }
            )
    write("pil_resize.json", {"images": images, "cases": cases})


def resize_crop(image, shorter_side, crop, resample):
    """torchvision's Resize(shorter_side) and CenterCrop(crop), by PIL."""
    width, height = image.size
    if width <= height:
        new_width, new_height = shorter_side, int(shorter_side * height / width)
    else:
        new_width, new_height = int(shorter_side * width / height), shorter_side
    image = image.resize((new_width, new_height), resample)
    crop_height, crop_width = crop
    top = int(round((new_height - crop_height) / 2.0))
    left = int(round((new_width - crop_width) / 2.0))
    return image.crop((left, top, left + crop_width, top + crop_height))


def pil_resize_crop(rng):
    # (height, width) of the image, shorter side, (height, width) of the crop.
    geometries = [
        ((17, 27), 12, (9, 9)),
        ((27, 17), 12, (9, 7)),
        ((7, 9), 15, (10, 11)),
        ((19, 19), 10, (7, 8)),
        ((5, 41), 9, (8, 8)),
        ((26, 15), 15, (12, 12)),
    ]
    images, cases = [], []
    for index, (source, shorter_side, crop) in enumerate(geometries):
        levels = picture(rng, *source)
        images.append({"height": source[0], "width": source[1], "levels": flat(levels)})
        for name, resample in FILTERS.items():
            result = resize_crop(Image.fromarray(levels), shorter_side, crop, resample)
            cases.append(
                {
                    "image": index,
                    "shorter_side": shorter_side,
                    "input_size": list(crop),
                    "interpolation": name,
                    "result": flat(result),
                }
            )
    write("pil_resize_crop.json", {"images": images, "cases": cases})


if __name__ == "__main__":
    for name in ["nearest", "constant", "reflect", "wrap"]:
        keras_transforms(np.random.default_rng(SEED), name)
    keras_outside_levels(np.random.default_rng(SEED))
    keras_normalization(np.random.default_rng(SEED))
    pil_resize(np.random.default_rng(SEED))
    pil_resize_crop(np.random.default_rng(SEED))
