"""Losses by PyTorch and Keras: values without reduction, mean, sum, and the gradient of the mean, in f64."""

import json
import os
import pathlib

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np
import torch
import torch.nn.functional as F
import torchvision

SEED = 20261125
keras.config.set_floatx("float64")
rng = np.random.default_rng(SEED)


def grid(*shape, scale=2.0):
    """Numbers that f32 holds exactly."""
    return torch.tensor(np.round(rng.normal(size=shape) * scale * 64) / 64)


logits = grid(5, 4)
logits[0, 1] = 40.0
labels = torch.tensor([1, 0, 3, 3, 2])
shares = torch.tensor([[1, 0, 0, 0], [0.5, 0.25, 0.25, 0], [0, 0.125, 0.125, 0.75], [0.25] * 4, [0, 0, 0.5, 0.5]]).double()
binary = torch.tensor(rng.integers(0, 2, size=(5, 4))).double()
probabilities = torch.tensor(rng.integers(1, 8, size=(5, 4)) / 8.0)
left, right, third = grid(5, 3), grid(5, 3), grid(5, 3)
weights = torch.tensor([0.5, 2.0, 1.0, 0.25]).double()
one_hot = F.one_hot(labels, 4).double()
cases = []


def case(name, peer, settings, inputs, function, reduced=None):
    """`function(first, *rest)` gives a value a sample; `reduced` a mean that is not theirs."""
    first = inputs[0].clone().requires_grad_()
    losses = function(first, *inputs[1:])
    mean = reduced(first, *inputs[1:]) if reduced else losses.mean()
    mean.backward()
    cases.append({
        "name": name, "peer": peer, "settings": settings,
        "inputs": [{"shape": list(x.shape), "values": x.flatten().tolist()} for x in inputs],
        "losses": losses.detach().flatten().tolist(), "mean": mean.item(), "sum": losses.sum().item(),
        "gradient": first.grad.flatten().tolist(),
    })


def rows(losses):
    return losses.mean(dim=1)


for smoothing, weight in [(0.0, None), (0.1, None), (0.0, weights), (0.2, weights)]:
    settings = {"label_smoothing": smoothing, "class_weights": weight.tolist() if weight is not None else None}
    options = {"label_smoothing": smoothing, "weight": weight}
    case("cross_entropy", "PyTorch CrossEntropyLoss, classes", settings, [logits, labels.double()],
         lambda x, t: F.cross_entropy(x, t.long(), reduction="none", **options),
         lambda x, t: F.cross_entropy(x, t.long(), **options))
    case("soft_cross_entropy", "PyTorch CrossEntropyLoss, shares", settings, [logits, shares],
         lambda x, t: F.cross_entropy(x, t, reduction="none", **options))
case("cross_entropy_from_probabilities", "Keras CategoricalCrossentropy", {}, [probabilities, shares],
     lambda p, t: keras.losses.categorical_crossentropy(t, p))
for weight in [None, weights]:
    case("binary_cross_entropy", "PyTorch BCEWithLogitsLoss",
         {"positive_weights": weight.tolist() if weight is not None else None, "label_smoothing": 0.0}, [logits, binary],
         lambda x, t: rows(F.binary_cross_entropy_with_logits(x, t, pos_weight=weight, reduction="none")))
case("binary_cross_entropy", "Keras BinaryCrossentropy", {"positive_weights": None, "label_smoothing": 0.1}, [logits, binary],
     lambda x, t: keras.losses.binary_crossentropy(t, x, from_logits=True, label_smoothing=0.1))
case("binary_cross_entropy_from_probabilities", "Keras BinaryCrossentropy", {}, [probabilities.clamp(max=0.875), shares],
     lambda p, t: keras.losses.binary_crossentropy(t, p))
small = grid(5, 4, scale=1.0)
for alpha, gamma in [(0.25, 2.0), (1.0, 0.0), (0.5, 1.5)]:
    case("focal", "Keras CategoricalFocalCrossentropy", {"alpha": alpha, "gamma": gamma}, [small, shares],
         lambda x, t: keras.losses.categorical_focal_crossentropy(t, x, alpha=alpha, gamma=gamma, from_logits=True))
for alpha, gamma in [(0.25, 2.0), (0.5, 0.5)]:
    case("binary_focal", "torchvision sigmoid_focal_loss", {"alpha": alpha, "gamma": gamma}, [small, binary],
         lambda x, t: rows(torchvision.ops.sigmoid_focal_loss(x, t, alpha=alpha, gamma=gamma)))
case("mse", "PyTorch MSELoss", {}, [left, right], lambda a, b: F.mse_loss(a, b, reduction="none"))
case("mae", "PyTorch L1Loss", {}, [left, right], lambda a, b: F.l1_loss(a, b, reduction="none"))
for delta in [1.0, 0.5]:
    case("huber", "PyTorch HuberLoss", {"delta": delta}, [left, right], lambda a, b: F.huber_loss(a, b, delta=delta, reduction="none"))
    case("smooth_l1", "PyTorch SmoothL1Loss", {"beta": delta}, [left, right], lambda a, b: F.smooth_l1_loss(a, b, beta=delta, reduction="none"))
case("kl_divergence", "PyTorch KLDivLoss", {}, [torch.log_softmax(small, 1).float().double(), shares],
     lambda x, t: F.kl_div(x, t, reduction="none"))
case("cosine", "Keras CosineSimilarity + 1", {}, [left, right], lambda a, b: keras.losses.cosine_similarity(b, a) + 1)
sign = torch.tensor([1, -1, 1, -1, 1.0]).double()
case("cosine_embedding", "PyTorch CosineEmbeddingLoss", {"margin": 0.25}, [left, right, sign],
     lambda a, b, t: F.cosine_embedding_loss(a, b, t, margin=0.25, reduction="none"))
case("triplet", "PyTorch TripletMarginLoss", {"margin": 1.0}, [left, right, third],
     lambda a, b, c: F.triplet_margin_loss(a, b, c, margin=1.0, reduction="none"))


def nt_xent(a, b, temperature):
    views = F.normalize(torch.cat([a, b]), dim=1)
    scores = (views @ views.T / temperature).masked_fill(torch.eye(len(views), dtype=bool), float("-inf"))
    n = len(a)
    return F.cross_entropy(scores, torch.cat([torch.arange(n) + n, torch.arange(n)]), reduction="none")


for temperature in [0.5, 0.1]:
    case("nt_xent", "the paper's equation 1 in PyTorch", {"temperature": temperature}, [left, right],
         lambda a, b: nt_xent(a, b, temperature))


def short(value):
    if isinstance(value, float):
        return float(f"{value:.10g}")
    if isinstance(value, list):
        return [short(v) for v in value]
    if isinstance(value, dict):
        return {k: short(v) for k, v in value.items()}
    return value


golden = {
    "made_by": "cargo xtask golden generate_losses", "seed": SEED,
    "versions": {m.__name__: m.__version__ for m in (torch, torchvision, keras, np)},
}
lines = ",\n".join(json.dumps(short(c)) for c in cases)
head = json.dumps(golden)[:-1]
pathlib.Path(__file__).with_name("losses.json").write_text(f'{head}, "cases": [\n{lines}\n]}}\n')
