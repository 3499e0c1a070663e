"""torchvision's transforms and Pillow's operations with parameters that are given, and the magnitudes of its policies."""

import json
import pathlib

import numpy as np
import PIL
import PIL.Image
import torch
import torchvision
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

SEED = 20261125
rng = np.random.default_rng(SEED)
MADE_BY = {
    "made_by": "cargo xtask golden generate_torchvision", "seed": SEED,
    "versions": {"torch": torch.__version__, "torchvision": torchvision.__version__, "pillow": PIL.__version__},
}
here = pathlib.Path(__file__).parent


def hexed(image):
    return np.asarray(image, dtype=np.uint8).tobytes().hex()


def picture(width, height):
    """Noise over a slope, not over the whole range."""
    y, x = np.mgrid[:height, :width]
    slope = np.stack([x * 160 / width, y * 150 / height, (x + y) * 140 / (width + height)], axis=-1)
    return PIL.Image.fromarray((slope + rng.integers(20, 90, size=(height, width, 3))).astype(np.uint8))


images = {"small": picture(10, 7), "large": picture(27, 21)}
NEAREST, BILINEAR = v2.InterpolationMode.NEAREST, v2.InterpolationMode.BILINEAR
MODES = {"nearest": NEAREST, "bilinear": BILINEAR}
cases = []


def add(image, op, output, tolerance=0):
    cases.append({"image": image, "op": op, "levels": hexed(output), "size": list(output.size), "tolerance": tolerance})


small, large = images["small"], images["large"]
add("small", {"op": "flip_horizontal"}, F.horizontal_flip(small))
add("small", {"op": "flip_vertical"}, F.vertical_flip(small))
for degrees in (10.0, -33.5, 90.0, 180.0, 0.0):
    for name, mode in MODES.items():
        fill = [0, 0, 0] if degrees > 0 else [9, 100, 200]
        add("small", {"op": "rotate", "degrees": degrees, "sampling": name, "fill": fill}, F.rotate(small, degrees, mode, fill=fill))
for degrees, translate, scale, shear in [
    (0.0, [3.0, -2.0], 1.0, [0.0, 0.0]), (0.0, [0.0, 0.0], 1.3, [0.0, 0.0]), (20.0, [1.0, 2.0], 0.8, [5.0, -8.0]), (-75.0, [0.0, 0.0], 1.0, [0.0, 30.0]),
]:
    for name, mode in MODES.items():
        op = {"op": "affine", "degrees": degrees, "translate": translate, "scale": scale, "shear": shear, "corner": False, "sampling": name, "fill": [7, 8, 9]}
        add("small", op, F.affine(small, degrees, [int(t) for t in translate], scale, shear, mode, fill=[7, 8, 9]))
for shear in ([12.0, 0.0], [0.0, -12.0]):
    op = {"op": "affine", "degrees": 0.0, "translate": [0.0, 0.0], "scale": 1.0, "shear": shear, "corner": True, "sampling": "nearest", "fill": [0, 0, 0]}
    add("small", op, F.affine(small, 0.0, [0, 0], 1.0, shear, NEAREST, fill=[0, 0, 0], center=[0, 0]))
w, h = small.size
ends = [[1, 2], [w - 2, 0], [w - 3, h - 2], [0, h - 3]]
for corners in (ends, [[0, 0], [w - 1, 0], [w - 1, h - 1], [0, h - 1]]):
    # The coefficients come from least squares in f32: corners that stay where they are do not give the identity there.
    add("small", {"op": "perspective", "corners": corners, "fill": [0, 0, 0]},
        F.perspective(small, [[0, 0], [w - 1, 0], [w - 1, h - 1], [0, h - 1]], corners, BILINEAR, fill=[0, 0, 0]), tolerance=1)
for x, y, width, height in ((2, 1, 5, 6), (-3, -2, 11, 8), (6, 4, 11, 8)):
    add("small", {"op": "window", "x": x, "y": y, "width": width, "height": height, "fill": [0, 0, 0]}, F.crop(small, y, x, height, width))
for factor in (0.0, 0.37, 1.0, 1.9):
    add("small", {"op": "brightness", "factor": factor}, F.adjust_brightness(small, factor))
    add("small", {"op": "contrast", "factor": factor}, F.adjust_contrast(small, factor))
    add("small", {"op": "saturation", "factor": factor}, F.adjust_saturation(small, factor))
    add("small", {"op": "sharpness", "factor": factor}, F.adjust_sharpness(small, factor))
for shift in (-0.5, -0.13, 0.0, 0.2, 0.5):
    add("small", {"op": "hue", "shift": shift}, F.adjust_hue(small, shift))
add("small", {"op": "grayscale"}, F.rgb_to_grayscale(small, num_output_channels=3))
for size, sigma in ((3, 0.7), (5, 2.0), (1, 1.0)):
    add("small", {"op": "blur", "kernel_size": size, "sigma": sigma}, F.gaussian_blur(small, [size, size], [sigma, sigma]))
for bits in (1, 4, 8):
    add("small", {"op": "posterize", "bits": bits}, F.posterize(small, bits))
for threshold in (0.0, 96.5, 128.0, 256.0):
    add("small", {"op": "solarize", "threshold": threshold}, F.solarize(small, threshold))
add("small", {"op": "invert"}, F.invert(small))
for image in ("small", "large"):
    add(image, {"op": "equalize"}, F.equalize(images[image]))
    add(image, {"op": "autocontrast"}, F.autocontrast(images[image]))
erased = F.to_pil_image(F.erase(F.pil_to_tensor(small), 1, 2, 4, 5, torch.tensor([3, 4, 5], dtype=torch.uint8)[:, None, None]))
add("small", {"op": "erase", "x": 2, "y": 1, "width": 5, "height": 4, "value": [3, 4, 5]}, erased)

golden = MADE_BY | {"images": {name: {"size": list(image.size), "levels": hexed(image)} for name, image in images.items()}}
head = json.dumps(golden)[:-1]
(here / "torchvision_ops.json").write_text(head + ', "cases": [\n' + ",\n".join(map(json.dumps, cases)) + "\n]}\n")

# A field of displacements in pixels, and what torchvision's elastic makes of it.
field = (rng.normal(size=(h, w, 2)) * 1.5 * 64).round() / 64
moved = torch.tensor(field / np.array([w / 2, h / 2]), dtype=torch.float32)[None]
displaced = F.elastic(F.pil_to_tensor(small), moved, interpolation=BILINEAR, fill=[0.0])
golden = MADE_BY | {"size": [w, h], "levels": hexed(small), "field": field.reshape(-1, 2).tolist(), "displaced": hexed(displaced.permute(1, 2, 0).numpy())}
(here / "torchvision_elastic.json").write_text(json.dumps(golden) + "\n")

spaces = {"randaugment": (v2.RandAugment, 31), "wide": (v2.TrivialAugmentWide, 31), "autoaugment": (v2.AutoAugment, 10), "augmix": (v2.AugMix, 10)}
width, height, cases = 65, 48, []
for name, (policy, bins) in spaces.items():
    for kind, (magnitudes, signed) in policy._AUGMENTATION_SPACE.items():
        values = magnitudes(bins, height, width)
        if values is not None:
            cases.append({"space": name, "kind": kind, "magnitudes": [float(v) for v in values]})
golden = MADE_BY | {"size": [width, height]}
head = json.dumps(golden)[:-1]
(here / "policy_magnitudes.json").write_text(head + ', "cases": [\n' + ",\n".join(map(json.dumps, cases)) + "\n]}\n")
