"""Attention, positions, recurrent layers and transformer layers by PyTorch in f64, as generate_layers.py has the others."""

import json
import pathlib

import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(20261127)
torch.set_default_dtype(torch.float64)
cases = []


def plain(x):
    return {"shape": list(x.shape), "values": [float(f"{v:.7g}") for v in x.detach().flatten().tolist()]}


def rounded(*shape):
    return (torch.randn(*shape) * 64).round() / 64


def case(name, module, *inputs):
    for parameter in module.parameters():
        parameter.data = ((parameter.data + 0.1 * torch.randn_like(parameter)) * 256).round() / 256
    leaves = [x.clone().requires_grad_() if i == 0 else x for i, x in enumerate(inputs)]
    y = module(*leaves)
    weights = 1 + 0.125 * (torch.arange(y.numel()) % 17).reshape(y.shape)
    (y * weights).sum().backward()
    cases.append({
        "name": name, "inputs": [plain(x) for x in inputs], "output": plain(y), "gradient": plain(leaves[0].grad),
        "parameters": {k: plain(p) for k, p in module.named_parameters()},
        "gradients": {k: plain(p.grad) for k, p in module.named_parameters()},
    })


class Run(nn.Module):
    """A function of a module and inputs."""

    def __init__(self, module, function):
        super().__init__()
        self.of = module
        self.function = function

    def named_parameters(self, *args, **kwargs):
        return self.of.named_parameters() if self.of is not None else iter(())

    def parameters(self, *args, **kwargs):
        return self.of.parameters() if self.of is not None else iter(())

    def forward(self, *inputs):
        return self.function(self.of, *inputs)


causal = torch.triu(torch.ones(4, 4, dtype=torch.bool), 1)
padding = torch.tensor([[False, False, False, True], [False, True, True, True]])
heads = lambda: nn.MultiheadAttention(6, 2, batch_first=True)
case("attention", Run(heads(), lambda m, x: m(x, x, x)[0]), rounded(2, 4, 6))
case("attention_causal", Run(heads(), lambda m, x: m(x, x, x, attn_mask=causal)[0]), rounded(2, 4, 6))
case("attention_padding", Run(heads(), lambda m, x: m(x, x, x, key_padding_mask=padding)[0]), rounded(2, 4, 6))
case("attention_cross", Run(heads(), lambda m, x, y: m(x, y, y)[0]), rounded(2, 3, 6), rounded(2, 4, 6))


class Grouped(nn.Module):
    """Four heads of queries, two of keys and values."""

    def __init__(self):
        super().__init__()
        self.query, self.key, self.value, self.output = nn.Linear(8, 8), nn.Linear(8, 4), nn.Linear(8, 4), nn.Linear(8, 8)

    def forward(self, x):
        split = lambda y: y.reshape(*y.shape[:2], -1, 2).transpose(1, 2)
        y = F.scaled_dot_product_attention(split(self.query(x)), split(self.key(x)), split(self.value(x)), enable_gqa=True)
        return self.output(y.transpose(1, 2).flatten(2))


case("attention_grouped", Grouped(), rounded(1, 3, 8))


def turn(x, interleaved):
    """The paper's equation 34, as a product of complex numbers."""
    width = x.shape[-1]
    angle = torch.arange(x.shape[2])[:, None] / 10000 ** (torch.arange(0, width, 2) / width)
    turns = torch.polar(torch.ones_like(angle), angle)
    pairs = x.unflatten(-1, (-1, 2)) if interleaved else torch.stack(x.chunk(2, -1), -1)
    y = torch.view_as_real(torch.view_as_complex(pairs.contiguous()) * turns)
    return y.flatten(-2) if interleaved else torch.cat([y[..., 0], y[..., 1]], -1)


case("rotary_interleaved", Run(None, lambda m, x: turn(x, True)), rounded(1, 2, 5, 6))
case("rotary_halves", Run(None, lambda m, x: turn(x, False)), rounded(1, 2, 5, 6))
case("rnn", Run(nn.RNN(3, 4, batch_first=True), lambda m, x: m(x)[0]), rounded(2, 5, 3))
case("lstm", Run(nn.LSTM(3, 4, batch_first=True), lambda m, x: m(x)[0]), rounded(2, 5, 3))
case("gru", Run(nn.GRU(3, 4, batch_first=True), lambda m, x: m(x)[0]), rounded(2, 5, 3))
case("gru_bidirectional", Run(nn.GRU(3, 2, batch_first=True, bidirectional=True), lambda m, x: m(x)[0]), rounded(1, 4, 3))
for first in (False, True):
    name = "pre" if first else "post"
    layer = nn.TransformerEncoderLayer(4, 2, 6, dropout=0.0, activation="gelu" if first else "relu", batch_first=True, norm_first=first)
    case(f"encoder_{name}", Run(layer, lambda m, x: m(x)), rounded(2, 3, 4))
    layer = nn.TransformerDecoderLayer(4, 2, 6, dropout=0.0, activation="gelu" if first else "relu", batch_first=True, norm_first=first)
    tgt = torch.triu(torch.ones(3, 3, dtype=torch.bool), 1)
    case(f"decoder_{name}", Run(layer, lambda m, x, y: m(x, y, tgt_mask=tgt)), rounded(1, 3, 4), rounded(1, 4, 4))

golden = {"made_by": "cargo xtask golden generate_sequence", "versions": {"torch": torch.__version__}}
head = json.dumps(golden)[:-1]
half = [c["name"] for c in cases].index("rnn")
for file, part in (("attention", cases[:half]), ("sequence", cases[half:])):
    text = head + ', "cases": [\n' + ",\n".join(map(json.dumps, part)) + "\n]}\n"
    pathlib.Path(__file__).with_name(f"{file}.json").write_text(text)
