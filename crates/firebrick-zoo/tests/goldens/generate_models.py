"""Goldens of the image backbones: what the framework's own models compute with weights by a formula (seeded_weights.py), in f64.

    python generate_models.py [FAMILY...]

writes models/FAMILY.json. Per model: the number of parameters, the hash of its state dict's names and shapes, and for each size of the
images, a batch of two, the logits in evaluation and in training mode; where a size is given for it, also the images' gradient of
`sum(direction * logits)` in evaluation mode. Of each the norm and some values are kept. Dropout and stochastic depth are off.

    python generate_models.py structure_NAME

writes models/structure_NAME.json: parameters, tensors and hash only, of models too large to run in a test.
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


class AttentionPool(torch.nn.MultiheadAttention):
    """Attention over the places of a map; the mean, or what the class token gets."""

    def __init__(self, width, heads, class_token):
        super().__init__(width, heads, batch_first=True)
        self.class_token = torch.nn.Parameter(torch.zeros(1, 1, width)) if class_token else None

    def forward(self, map):
        tokens = map.flatten(2).transpose(1, 2)
        if self.class_token is not None:
            tokens = torch.cat([self.class_token.expand(len(tokens), -1, -1), tokens], 1)
        tokens = super().forward(tokens, tokens, tokens, need_weights=False)[0]
        return tokens.mean(1) if self.class_token is None else tokens[:, 0]


def mobilenet_v2_with_attention(heads, class_token):
    class Composite(torchvision.models.MobileNetV2):
        def __init__(self):
            super().__init__()
            self.attention_pool = AttentionPool(self.last_channel, heads, class_token)

        def forward(self, images):
            return self.classifier(self.attention_pool(self.features(images)))

    return Composite


def from_another_size(name, channels, size, before):
    """A timm model for images of `size` pixels and `channels`, with what its loader makes of weights for colour images of `before` pixels."""

    def make():
        import timm
        from timm.models import adapt_input_conv
        from timm.models.vision_transformer import checkpoint_filter_fn

        source = timm.create_model(name, pretrained=False, img_size=before).double()
        seeded_weights.fill(source)
        model = timm.create_model(name, pretrained=False, img_size=size, in_chans=channels).double()
        state = checkpoint_filter_fn(source.state_dict(), model)
        first = model.pretrained_cfg["first_conv"] + ".weight"
        state[first] = adapt_input_conv(channels, state[first])
        model.load_state_dict(state)
        model.is_filled = True
        return model

    return make


# Family: our name -> the framework's model, the sides of square images, and the side for the gradient, if any; then the options that the
# model has here, if any, `model` among them where the name is not the model's.
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
    "composite": {
        "mobilenet_v2, mean of attention": (
            mobilenet_v2_with_attention(8, False),
            [96],
            None,
            {"model": "mobilenet_v2", "attention": {"heads": 8, "class_token": False}},
        ),
        "mobilenet_v2, class token": (
            mobilenet_v2_with_attention(4, True),
            [],
            64,
            {"model": "mobilenet_v2", "attention": {"heads": 4, "class_token": True}},
        ),
    },
    "convnext": {"convnext_tiny": (torchvision_model("convnext_tiny"), [64], 33)},
    "swin": {"swin_t": (torchvision_model("swin_t"), [64], 36)},
    "vit": {
        "vit_tiny_patch16_224": (
            timm_model("vit_tiny_patch16_224", img_size=48),
            [48],
            48,
            {"image_size": 48},
        ),
        "vit_tiny_patch16_224, weights of another size": (
            from_another_size("vit_tiny_patch16_224", 1, 32, 80),
            [32],
            None,
            {"model": "vit_tiny_patch16_224", "image_size": 32, "channels": 1, "weights_of": 80},
        ),
    },
}

# Our name -> the framework's model, and the same model in other frameworks.
STRUCTURES = {
    "transformers": {
        **{
            # timm has no head on the largest, unless it is told how many classes there are.
            name: (torchvision_model(name), {"timm": timm_model(other, num_classes=1000)})
            for name, other in [
                ("vit_b_16", "vit_base_patch16_224"),
                ("vit_b_32", "vit_base_patch32_224"),
                ("vit_l_16", "vit_large_patch16_224"),
                ("vit_l_32", "vit_large_patch32_224"),
                ("vit_h_14", "vit_huge_patch14_224"),
            ]
        },
        **{
            name: (timm_model(name), {})
            for name in [
                "vit_tiny_patch16_224",
                "vit_small_patch16_224",
                "deit_tiny_patch16_224",
                "deit_small_patch16_224",
                "deit_base_patch16_224",
            ]
        },
        **{
            name: (torchvision_model(name), {})
            for name in [
                "swin_t",
                "swin_s",
                "swin_b",
                "convnext_tiny",
                "convnext_small",
                "convnext_base",
                "convnext_large",
            ]
        },
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


def gradient_of(model, side, channels):
    images = images_of(side, channels).requires_grad_(True)
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


def structure(make):
    """Parameters, tensors and hash of names and shapes, without a value."""
    with torch.device("meta"):
        model = make()
    state = model.state_dict()
    listed = sorted(f"{name} {list(value.shape)}" for name, value in state.items() if value.is_floating_point())
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "tensors": len(listed),
        "names_sha256": hashlib.sha256("\n".join(listed).encode()).hexdigest(),
    }


def golden(make, sides, gradient_side, options=None):
    torch.manual_seed(0)
    model = make().double()
    still(model)
    channels = (options or {}).get("channels", 3)
    if getattr(model, "is_filled", False):
        names = [[name, list(value.shape)] for name, value in model.state_dict().items()]
    else:
        names = seeded_weights.fill(model)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    listed = sorted(f"{name} {list(shape)}" for name, shape in names)
    record = {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "tensors": len(listed),
        "names_sha256": hashlib.sha256("\n".join(listed).encode()).hexdigest(),
        "sizes": {},
        "gradient": gradient_of(model.eval(), gradient_side, channels) if gradient_side else None,
    }
    if options:
        record["options"] = options
    with torch.no_grad():
        for side in sides:
            images = images_of(side, channels)
            record["sizes"][str(side)] = {
                "evaluation": pick(logits_of(model.eval(), images)),
                "training": pick(logits_of(model.train(), images)),
            }
            model.load_state_dict(state)
    return record


def main():
    families = sys.argv[1:] or [*MODELS, *(f"structure_{name}" for name in STRUCTURES)]
    for family in families:
        out = {
            "made_by": f"python generate_models.py {family}: torch {torch.__version__}, torchvision {torchvision.__version__}",
            "models": {},
        }
        if family.startswith("structure_"):
            models = STRUCTURES[family.removeprefix("structure_")].items()
            records = ((name, structure(make), aliases) for name, (make, aliases) in models)
            for name, record, aliases in records:
                record["aliases"] = {other: structure(make)["names_sha256"] for other, make in aliases.items()}
                out["models"][name] = record
                print(name, record["parameters"], flush=True)
        for name, description in MODELS.get(family, {}).items():
            out["models"][name] = golden(*description)
            print(name, out["models"][name]["parameters"], flush=True)
        path = HERE / "models" / f"{family}.json"
        path.write_text(json.dumps(out, indent=None, separators=(",", ":")).replace('"models":', '\n"models":') + "\n")


if __name__ == "__main__":
    main()
