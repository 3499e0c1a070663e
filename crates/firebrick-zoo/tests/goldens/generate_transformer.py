"""torch.nn.Transformer in f64 with seeded weights between embeddings and a generator, as in "Attention Is All You Need": logits, loss,
gradients of the embeddings, and greedy decoding.

`paper` has the norms behind each part and no others, as the paper; `torch` is the class with its defaults, which adds a norm behind each
stack; `pre` has the norms first."""

import json
import math
import pathlib

import seeded_weights
import torch
from torch import nn

SIZES = {"source_vocabulary": 19, "target_vocabulary": 23, "width": 12, "heads": 3, "feed_forward": 20, "layers": 2}


def plain(x):
    return {"shape": list(x.shape), "values": [float(f"{v:.7g}") for v in x.detach().flatten().tolist()]}


def positions(tokens, width):
    angle = torch.arange(tokens)[:, None] / 10000 ** (torch.arange(0, width, 2) / width)
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(1)


class Translator(nn.Module):
    def __init__(self, kind):
        super().__init__()
        width, heads, wide, layers = (SIZES[k] for k in ("width", "heads", "feed_forward", "layers"))
        self.shared = kind == "paper"
        rows = SIZES["source_vocabulary"]
        self.source = nn.Embedding(rows, width)
        self.target = self.source if self.shared else nn.Embedding(SIZES["target_vocabulary"], width)
        options = {"dropout": 0.0, "batch_first": True, "norm_first": kind == "pre", "activation": "relu"}
        custom = {}
        if kind == "paper":
            custom = {
                "custom_encoder": nn.TransformerEncoder(nn.TransformerEncoderLayer(width, heads, wide, **options), layers),
                "custom_decoder": nn.TransformerDecoder(nn.TransformerDecoderLayer(width, heads, wide, **options), layers),
            }
        self.transformer = nn.Transformer(width, heads, layers, layers, wide, **options, **custom)
        if not self.shared:
            self.generator = nn.Linear(width, SIZES["target_vocabulary"])

    def embed(self, table, ids):
        return table(ids) * math.sqrt(SIZES["width"]) + positions(ids.shape[1], SIZES["width"])

    def forward(self, source, target, padding):
        causal = torch.triu(torch.ones(target.shape[1], target.shape[1], dtype=torch.bool), 1)
        y = self.transformer(
            self.embed(self.source, source), self.embed(self.target, target), tgt_mask=causal,
            src_key_padding_mask=padding, memory_key_padding_mask=padding,
        )
        return y @ self.source.weight.T if self.shared else self.generator(y)


torch.set_default_dtype(torch.float64)
source = torch.tensor([[3, 17, 5, 11, 2], [8, 1, 2, 0, 0]])
padding = source == 0
target = torch.tensor([[1, 7, 18, 4], [1, 12, 2, 0]])
following = torch.tensor([[7, 18, 4, 2], [12, 2, -100, -100]])
cases = []
for kind in ("paper", "torch", "pre"):
    model = Translator(kind)
    names = seeded_weights.fill(model)
    # Lets PyTorch's fast path for inference aside.
    model.train()
    logits = model(source, target, padding)
    loss = nn.functional.cross_entropy(logits.flatten(0, 1), following.flatten(), ignore_index=-100)
    loss.backward()
    text = torch.ones(2, 1, dtype=torch.long)
    margin = math.inf
    for _ in range(8):
        top = model(source, text, padding)[:, -1].topk(2)
        margin = min(margin, float((top.values[:, 0] - top.values[:, 1]).min()))
        text = torch.cat([text, top.indices[:, :1]], 1)
    assert margin > 1e-3, margin
    case = {
        "name": kind, "tensors": names, "logits": plain(logits), "loss": loss.item(), "source_gradient": plain(model.source.weight.grad),
        "target_gradient": plain(model.target.weight.grad), "greedy": text[:, 1:].tolist(), "margin": margin,
        "parameters": sum(p.numel() for p in model.parameters()),
    }
    cases.append(case)

golden = {
    "made_by": "cargo xtask golden generate_transformer", "versions": {"torch": torch.__version__}, "sizes": SIZES,
    "source": source.tolist(), "target": target.tolist(), "following": following.tolist(),
}
text = json.dumps(golden)[:-1] + ', "cases": [\n' + ",\n".join(map(json.dumps, cases)) + "\n]}\n"
pathlib.Path(__file__).with_name("transformer.json").write_text(text)
