"""Dropouts with masks that are given, in f64: PyTorch's and torchvision's own draws, read off and replayed; recurrent layers with Keras'."""

import json
import os
import pathlib

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np
import torch
import torchvision
from torch import nn

SEED = 20261129
keras.config.set_floatx("float64")
torch.manual_seed(SEED)
torch.set_default_dtype(torch.float64)
cases = []


def plain(x):
    return {"shape": list(x.shape), "values": [float(f"{v:.8g}") for v in x.detach().flatten().tolist()]}


def rounded(*shape):
    return (torch.randn(*shape) * 64).round() / 64


def case(name, function, inputs, parameters=None, gradients=lambda: {}):
    """Inputs are the layer's own one, which is differentiated, and the masks."""
    x = inputs[0].clone().requires_grad_()
    y = function(x)
    weights = 1 + 0.125 * (torch.arange(y.numel()) % 17).reshape(y.shape)
    (y * weights).sum().backward()
    cases.append({
        "name": name, "inputs": [plain(i) for i in inputs], "output": plain(y), "gradient": plain(x.grad),
        "parameters": {k: plain(p) for k, p in (parameters or {}).items()},
        "gradients": {k: plain(g) for k, g in gradients().items()},
    })


def replayed(name, module, x, kept_of):
    """Runs a module twice from one seed: for its mask, and for its result."""
    torch.manual_seed(SEED)
    kept = kept_of(module(x).detach())
    assert 0 < kept.mean() < 1, name

    def run(x):
        torch.manual_seed(SEED)
        return module(x)

    case(name, run, [x, kept])


replayed("spatial", nn.Dropout2d(0.25), rounded(3, 5, 2, 3), lambda y: (y != 0).double().amax((2, 3), keepdim=True))
replayed("path", torchvision.ops.StochasticDepth(0.4, "row"), rounded(6, 2, 3),
         lambda y: (y != 0).double().amax((1, 2), keepdim=True))
P = 0.3
LEAST = -1.7580993408473766
scale = ((1 - P) * (1 + P * LEAST**2)) ** -0.5
replayed("alpha", nn.AlphaDropout(P), rounded(4, 7), lambda y: ((y - scale * LEAST * (1 - P)).abs() > 1e-9).double())

# torchvision draws the blocks' centres first: the same draw is taken before.
x, share, block = rounded(2, 3, 8, 7), 0.3, 3
gamma = share * 8 * 7 / (block**2 * (8 - block + 1) * (7 - block + 1))
torch.manual_seed(SEED)
centres = torch.empty(2, 3, 8 - block + 1, 7 - block + 1).bernoulli_(gamma)


def dropped(x):
    torch.manual_seed(SEED)
    return torchvision.ops.drop_block2d(x, share, block, eps=0.0)


assert (dropped(x) == 0).any()
case("block", dropped, [x, centres])

weight, bias = (rounded(4, 6).requires_grad_(), rounded(4).requires_grad_())
kept = torch.empty(4, 6).bernoulli_(0.75)
case("connect", lambda x: nn.functional.linear(x, weight * kept / 0.75, bias), [rounded(3, 6), kept.T],
     {"weight": weight, "bias": bias}, lambda: {"weight": weight.grad, "bias": bias.grad})

INPUTS, HIDDEN = 3, 4
for name, layer, order in [
    ("recurrent_rnn", keras.layers.SimpleRNN, [0]),
    ("recurrent_lstm", keras.layers.LSTM, [0, 1, 2, 3]),
    ("recurrent_gru", keras.layers.GRU, [1, 0, 2]),
]:
    layer = layer(HIDDEN, dropout=0.5, recurrent_dropout=0.25, return_sequences=True)
    layer.build((2, 5, INPUTS))
    masks = torch.empty(2, INPUTS).bernoulli_(0.5) / 0.5, torch.empty(2, HIDDEN).bernoulli_(0.75) / 0.75
    # One mask for all gates, as in the paper; Keras draws one a gate.
    each = (lambda mask: mask) if len(order) == 1 else (lambda mask: [mask] * len(order))
    layer.cell.get_dropout_mask = lambda _, mask=each(masks[0]): mask
    layer.cell.get_recurrent_dropout_mask = lambda _, mask=each(masks[1]): mask
    variables = dict(zip(("input_weight", "hidden_weight", "bias"), layer.cell.trainable_variables))
    for variable in variables.values():
        variable.assign((torch.randn(*variable.shape) * 0.5 * 256).round() / 256)

    # Keras' gates, along the last axis, in our order.
    def ours(value, order=order):
        return torch.cat([value.chunk(len(order), -1)[gate] for gate in order], -1)

    case(name, lambda x, layer=layer: layer(x, training=True), [rounded(2, 5, INPUTS), *masks],
         {k: ours(v.value) for k, v in variables.items()}, lambda v=variables: {k: ours(p.value.grad) for k, p in v.items()})

golden = {
    "made_by": "cargo xtask golden generate_dropout", "seed": SEED,
    "versions": {"torch": torch.__version__, "torchvision": torchvision.__version__, "keras": keras.__version__, "numpy": np.__version__},
}
text = json.dumps(golden)[:-1] + ', "cases": [\n' + ",\n".join(map(json.dumps, cases)) + "\n]}\n"
pathlib.Path(__file__).with_name("dropout.json").write_text(text)
