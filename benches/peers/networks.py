"""The networks that the peers run, in PyTorch and with random weights, which do not change the time."""

import math

import timm
import torch
import torchvision
from torch import nn

SIDE = 224


def classifier(name):
    """A network of torchvision, or of timm if that has none of the name, with 1,000 classes. No dropout: Firebrick's have none by default."""
    torch.manual_seed(0)
    if name == "mobilenet_v2":
        return torchvision.models.mobilenet_v2(weights=None, dropout=0.0)
    if name in torchvision.models.list_models():
        return torchvision.models.get_model(name, weights=None)
    return timm.create_model(name, pretrained=False)


class Attention(nn.Module):
    """Multi-head self-attention. `fused` calls PyTorch's kernel; otherwise its parts are spelled out as an export needs them."""

    def __init__(self, width, heads, fused):
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.output = nn.Linear(width, width)
        self.width, self.heads, self.fused = width, heads, fused

    def forward(self, x):
        batch, tokens = x.shape[:2]

        def split(y):
            return y.view(batch, tokens, self.heads, self.width // self.heads).transpose(1, 2)

        query, key, value = split(self.query(x)), split(self.key(x)), split(self.value(x))
        if self.fused:
            mixed = nn.functional.scaled_dot_product_attention(query, key, value)
        else:
            scores = query @ key.transpose(-1, -2) / math.sqrt(self.width // self.heads)
            mixed = scores.softmax(-1) @ value
        return self.output(mixed.transpose(1, 2).reshape(batch, tokens, self.width))


class EncoderLayer(nn.Module):
    """Attention, then a feed-forward part, each added to its input and normalised: Devlin et al. 2018, arXiv:1810.04805."""

    def __init__(self, width, heads, hidden, fused):
        super().__init__()
        self.attention = Attention(width, heads, fused)
        self.attention_norm = nn.LayerNorm(width, eps=1e-12)
        self.expand, self.contract = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.norm = nn.LayerNorm(width, eps=1e-12)

    def forward(self, x):
        x = self.attention_norm(x + self.attention(x))
        return self.norm(x + self.contract(nn.functional.gelu(self.expand(x))))


class BertClassifier(nn.Module):
    """The encoder with ten classes on its pooled first token, without dropout."""

    CLASSES = 10

    def __init__(self):
        super().__init__()
        self.encoder = BertEncoder()
        self.classes = nn.Linear(BertEncoder.WIDTH, self.CLASSES)

    def forward(self, ids):
        _, pooled = self.encoder(ids)
        return self.classes(pooled)


class BertEncoder(nn.Module):
    """BERT's encoder with 22.7 million parameters: token ids `[batch, tokens]` to `[batch, tokens, 384]` and the pooled first."""

    VOCABULARY, POSITIONS, WIDTH, HEADS, HIDDEN, LAYERS = 30522, 512, 384, 12, 1536, 6

    def __init__(self, fused=True):
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(self.VOCABULARY, self.WIDTH)
        self.positions = nn.Embedding(self.POSITIONS, self.WIDTH)
        self.types = nn.Embedding(2, self.WIDTH)
        self.norm = nn.LayerNorm(self.WIDTH, eps=1e-12)
        self.layers = nn.Sequential(
            *(EncoderLayer(self.WIDTH, self.HEADS, self.HIDDEN, fused) for _ in range(self.LAYERS))
        )
        self.pooler = nn.Linear(self.WIDTH, self.WIDTH)

    def forward(self, ids):
        x = self.words(ids) + self.positions.weight[: ids.shape[1]] + self.types.weight[0]
        x = self.layers(self.norm(x))
        return x, torch.tanh(self.pooler(x[:, 0]))


def tokens(batch, length):
    """Token ids `[batch, length]`, every one a word: nothing is padded, so there is no mask."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, BertEncoder.VOCABULARY, (batch, length), generator=generator)


def images(batch):
    """Images `[batch, 3, 224, 224]` with values as normalised pixels have."""
    generator = torch.Generator().manual_seed(0)
    return torch.rand((batch, 3, SIDE, SIDE), generator=generator) * 2 - 1


def export(network, example, path):
    """Writes the network as ONNX, for inputs of the example's shape."""
    with torch.inference_mode():
        torch.onnx.export(network.eval(), (example,), path, input_names=["input"], opset_version=17, dynamo=False)
