"""Activations by PyTorch in f64, with the gradient of a weighted sum, at places where there is one."""

import json
import pathlib

import torch
import torch.nn.functional as F

x = torch.tensor([-90.0, -7.5, -3.125, -2.9375, -1.0, -0.25, 0.125, 0.5, 1.75, 3.0625, 5.9375, 6.5, 88.0], dtype=torch.float64)
weights = 1 + 0.25 * torch.arange(len(x), dtype=torch.float64)
functions = {
    "sigmoid": torch.sigmoid, "tanh": torch.tanh, "relu": F.relu, "relu6": F.relu6, "selu": F.selu, "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"), "silu": F.silu, "hard_sigmoid": F.hardsigmoid, "hard_swish": F.hardswish,
    "mish": F.mish, "softplus": F.softplus, "softmax": lambda x: F.softmax(x, -1),
}
named = [(name, function) for name, function in functions.items()]
named += [({"leaky_relu": {"slope": s}}, lambda x, s=s: F.leaky_relu(x, s)) for s in (0.01, 0.3)]
named += [({"elu": {"alpha": a}}, lambda x, a=a: F.elu(x, a)) for a in (1.0, 0.5)]
cases = []
for name, function in named:
    leaf = x.clone().requires_grad_()
    # The largest of these would leave a softmax nothing else.
    scale = 1 / 32 if name == "softmax" else 1.0
    y = function(leaf * scale)
    (y * weights).sum().backward()
    cases.append({"activation": name, "scale": scale, "y": y.tolist(), "gradient": leaf.grad.tolist()})
golden = {"made_by": "cargo xtask golden generate_activations", "versions": {"torch": torch.__version__}, "x": x.tolist(), "cases": cases}
pathlib.Path(__file__).with_name("activations.json").write_text(json.dumps(golden) + "\n")
