"""Goldens of the image backbones: what the framework's own models compute with weights by a formula (seeded_weights.py), in f64.

    python generate_models.py [FAMILY...]

writes models/FAMILY.json. Per model: the number of parameters, the hash of its state dict's names and shapes, and for each size of the
images, a batch of two, the logits in evaluation and in training mode; where a size is given for it, also the images' gradient of
`sum(direction * logits)` in evaluation mode. Of each the norm and some values are kept. Dropout and stochastic depth are off.
"""

import hashlib
import json
import math
import pathlib
import sys

import numpy as np
import torch
import torchvision

import seeded_weights

HERE = pathlib.Path(__file__).parent
# Values that are kept of a tensor, evenly spread.
KEPT = 24


def torchvision_model(name, **options):
    return lambda: torchvision.models.get_model(name, weights=None, **options)


def timm_model(name, **options):
    def make():
        import timm

        return timm.create_model(name, pretrained=False, **options)

    return make


# Family: our name -> the framework's model, the sides of square images, and the side for the gradient, if any.
MODELS = {
    "mobilenet_v2": {"mobilenet_v2": (torchvision_model("mobilenet_v2"), [64, 65], 32)},
    "resnet": {
        "resnet18": (torchvision_model("resnet18"), [64, 65], 32),
        "resnet34": (torchvision_model("resnet34"), [64], None),
        "resnet50": (torchvision_model("resnet50"), [64, 65], 32),
        "resnet101": (torchvision_model("resnet101"), [64], None),
        "resnet152": (torchvision_model("resnet152"), [64], None),
        "resnext50_32x4d": (torchvision_model("resnext50_32x4d"), [64, 65], None),
        "wide_resnet50_2": (torchvision_model("wide_resnet50_2"), [64], None),
    },
}


def pick(tensor):
    """The norm of a tensor and values at evenly spread places of it."""
    flat = tensor.detach().double().reshape(-1).numpy()
    places = [i * flat.size // KEPT for i in range(min(KEPT, flat.size))]
    return {"norm": float(np.linalg.norm(flat)), "values": [float(f"{flat[i]:.9g}") for i in places]}


def images_of(side, channels=3):
    values = seeded_weights.uniform(f"images {side}", 2 * channels * side * side)
    return torch.from_numpy(values.reshape(2, channels, side, side))


def logits_of(model, images):
    logits = model(images)
    # GoogLeNet and Inception in training give those of their auxiliary heads too.
    return getattr(logits, "logits", logits)


def gradient_of(model, side):
    images = images_of(side).requires_grad_(True)
    logits = logits_of(model, images)
    direction = torch.from_numpy(seeded_weights.uniform("direction", logits.numel()).reshape(logits.shape))
    (logits * direction).sum().backward()
    return {"side": side, "logits": pick(logits), "gradient": pick(images.grad)}


def still(model):
    """Turns off everything that is random."""
    for module in model.modules():
        if isinstance(module, (torch.nn.Dropout, torch.nn.AlphaDropout)):
            module.p = 0.0
        if type(module).__name__ == "StochasticDepth":
            module.p = 0.0
        if type(module).__name__ == "DropPath":
            module.drop_prob = 0.0
        if isinstance(module, torch.nn.MultiheadAttention):
            module.dropout = 0.0


def golden(make, sides, gradient_side):
    torch.manual_seed(0)
    model = make().double()
    still(model)
    names = seeded_weights.fill(model)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    listed = sorted(f"{name} {list(shape)}" for name, shape in names)
    record = {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "tensors": len(listed),
        "names_sha256": hashlib.sha256("\n".join(listed).encode()).hexdigest(),
        "sizes": {},
        "gradient": gradient_of(model.eval(), gradient_side) if gradient_side else None,
    }
    with torch.no_grad():
        for side in sides:
            images = images_of(side)
            record["sizes"][str(side)] = {
                "evaluation": pick(logits_of(model.eval(), images)),
                "training": pick(logits_of(model.train(), images)),
            }
            model.load_state_dict(state)
    return record


def main():
    families = sys.argv[1:] or list(MODELS)
    for family in families:
        out = {
            "made_by": f"python generate_models.py {family}: torch {torch.__version__}, torchvision {torchvision.__version__}",
            "models": {},
        }
        for name, (make, sides, gradient_side) in MODELS[family].items():
            out["models"][name] = golden(make, sides, gradient_side)
            print(name, out["models"][name]["parameters"], flush=True)
        path = HERE / "models" / f"{family}.json"
        path.write_text(json.dumps(out, indent=None, separators=(",", ":")).replace('"models":', '\n"models":') + "\n")


if __name__ == "__main__":
    main()
