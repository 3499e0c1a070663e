"""Hidden states of two small transformer encoders in PyTorch.

BERT's shape: embeddings, norms behind, padding masked. GPT's and ViT's: hidden states, norms before and a last one, causal.
Parameters and inputs are a formula, so that the file need not hold them; see `values` here and in ../encoder_goldens.rs.
"""

import pathlib

import torch
from torch import nn

PATH = pathlib.Path(__file__).parent / "encoder.csv"
WIDTH, HEADS, FEED_FORWARD, LAYERS, BATCH, TOKENS, VOCABULARY = 24, 3, 40, 2, 2, 7, 13
LENGTHS = [7, 4]


class Values:
    """Part after part of a fixed sequence between -1 and 1."""

    def __init__(self):
        self.taken = 0

    def take(self, shape, scale=1.0, shift=0.0):
        count = int(torch.tensor(shape).prod())
        index = torch.arange(self.taken, self.taken + count, dtype=torch.int64)
        self.taken += count
        raw = ((index * index + 7919 * index) % 2003).to(torch.float64) / 1001.5 - 1.0
        return (raw * scale + shift).to(torch.float32).reshape(shape)


def fill_linear(values, weight, bias):
    weight.copy_(values.take(weight.shape, 0.5))
    bias.copy_(values.take(bias.shape))


def fill_norm(values, norm):
    norm.weight.copy_(values.take(norm.weight.shape, 0.3, 1.0))
    norm.bias.copy_(values.take(norm.bias.shape))


def encoder(values, pre):
    layer = nn.TransformerEncoderLayer(
        WIDTH, HEADS, FEED_FORWARD, dropout=0.0, activation="gelu", layer_norm_eps=1e-5, batch_first=True, norm_first=pre
    )
    last = nn.LayerNorm(WIDTH, eps=1e-5) if pre else None
    net = nn.TransformerEncoder(layer, LAYERS, norm=last, enable_nested_tensor=False).eval()
    for layer in net.layers:
        # Query, key and value one after another, each weight with its bias.
        for part in range(3):
            rows = slice(part * WIDTH, (part + 1) * WIDTH)
            fill_linear(values, layer.self_attn.in_proj_weight[rows], layer.self_attn.in_proj_bias[rows])
        for linear in (layer.self_attn.out_proj, layer.linear1, layer.linear2):
            fill_linear(values, linear.weight, linear.bias)
        fill_norm(values, layer.norm1)
        fill_norm(values, layer.norm2)
    if pre:
        fill_norm(values, last)
    return net


@torch.no_grad()
def post():
    values = Values()
    net = encoder(values, False)
    words, positions, types = (values.take((rows, WIDTH)) for rows in (VOCABULARY, TOKENS, 2))
    norm = nn.LayerNorm(WIDTH, eps=1e-12)
    fill_norm(values, norm)
    index = torch.arange(BATCH * TOKENS).reshape(BATCH, TOKENS)
    hidden = norm(words[index * 5 % VOCABULARY] + positions[index % TOKENS] + types[index % 2])
    padding = torch.arange(TOKENS)[None] >= torch.tensor(LENGTHS)[:, None]
    return net(hidden, src_key_padding_mask=padding)


@torch.no_grad()
def pre():
    values = Values()
    net = encoder(values, True)
    hidden = values.take((BATCH, TOKENS, WIDTH))
    return net(hidden, mask=nn.Transformer.generate_square_subsequent_mask(TOKENS), is_causal=True)


def main():
    # The fast path zeroes masked rows.
    torch.backends.mha.set_fastpath_enabled(False)
    lines = [
        f"# torch.nn.TransformerEncoder of torch {torch.__version__.split('+')[0]} on CPU: first post-norm, then pre-norm causal,",
        f"# each [{BATCH}, {TOKENS}, {WIDTH}]. Regenerate with: cargo xtask golden encoder",
    ]
    for result in (post(), pre()):
        lines += [f"{value:.6f}" for value in result.flatten().tolist()]
    PATH.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
