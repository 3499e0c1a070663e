"""torchvision's MixUp and CutMix with shares and rectangles that are given."""

import json
import pathlib

import torch
import torchvision
from torchvision.transforms import v2

SHAPE, CLASSES = (4, 2, 6, 5), 3
torch.manual_seed(20261125)
images = (torch.randn(SHAPE) * 64).round() / 64
labels = torch.tensor([0, 2, 1, 1])
cases = []


def add(kind, transform, share, centre, params):
    params = {"labels": labels, "batch_size": len(labels), **params}
    cases.append({
        "kind": kind, "share": share, "centre": centre,
        "images": transform.transform(images, params).flatten().tolist(),
        "targets": transform._mixup_label(labels, lam=params["lam"]).flatten().tolist()
        if kind == "mixup" else transform._mixup_label(labels, lam=params["lam_adjusted"]).flatten().tolist(),
    })


for share in (0.25, 0.875):
    add("mixup", v2.MixUp(num_classes=CLASSES), share, [0.5, 0.5], {"lam": share})
height, width = SHAPE[2:]
for share, centre in ((0.5, [0.5, 0.6]), (0.1, [0.0, 0.9]), (0.9, [0.99, 0.0])):
    # The arithmetic of CutMix.make_params, with its random numbers given.
    x, y = int(centre[1] * width), int(centre[0] * height)
    r = 0.5 * (1 - share) ** 0.5
    w, h = int(r * width), int(r * height)
    box = (max(x - w, 0), max(y - h, 0), min(x + w, width), min(y + h, height))
    lam = float(1.0 - (box[2] - box[0]) * (box[3] - box[1]) / (width * height))
    add("cutmix", v2.CutMix(num_classes=CLASSES), share, centre, {"box": box, "lam_adjusted": lam, "lam": lam})

golden = {
    "made_by": "cargo xtask golden generate_mixing", "versions": {"torch": torch.__version__, "torchvision": torchvision.__version__},
    "shape": SHAPE, "images": images.flatten().tolist(), "labels": labels.tolist(), "classes": CLASSES, "cases": cases,
}
pathlib.Path(__file__).with_name("mixing.json").write_text(json.dumps(golden) + "\n")
