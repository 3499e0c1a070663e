"""Parameters of the published sequence models, counted by transformers and PyTorch on the meta device, which allocates nothing."""

import json
import pathlib

import torch
import transformers
from torch import nn
from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification, BertModel, GPT2Config, GPT2LMHeadModel

BERT = {
    "minilm_l6": dict(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536),
    "bert_base": {},
    "bert_large": dict(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096),
}
GPT = {
    "gpt2": (768, 12, 12, 1024), "gpt2_medium": (1024, 24, 16, 1024), "gpt2_large": (1280, 36, 20, 1024), "gpt2_xl": (1600, 48, 25, 1024),
    "gpt3_small": (768, 12, 12, 2048), "gpt3_medium": (1024, 24, 16, 2048), "gpt3_large": (1536, 24, 16, 2048),
    "gpt3_xl": (2048, 24, 16, 2048), "gpt3_2.7b": (2560, 32, 32, 2048), "gpt3_6.7b": (4096, 32, 32, 2048),
    "gpt3_13b": (5120, 40, 40, 2048), "gpt3_175b": (12288, 96, 96, 2048),
}
TRANSFORMER = {"transformer_base": (512, 8, 2048), "transformer_big": (1024, 16, 4096)}


def count(module):
    return sum(p.numel() for p in module.parameters())


sizes = {}
with torch.device("meta"):
    for name, settings in BERT.items():
        sizes[name] = count(BertModel(BertConfig(**settings)))
        sizes[name + " masked"] = count(BertForMaskedLM(BertConfig(**settings)))
        sizes[name + " two classes"] = count(BertForSequenceClassification(BertConfig(**settings, num_labels=2)))
    for name, (width, layers, heads, context) in GPT.items():
        sizes[name] = count(GPT2LMHeadModel(GPT2Config(n_embd=width, n_layer=layers, n_head=heads, n_positions=context)))
    for name, (width, heads, wide) in TRANSFORMER.items():
        # The paper has no norm behind a stack, and one table of 37,000 tokens.
        encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(width, heads, wide), 6)
        decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(width, heads, wide), 6)
        sizes[name] = count(nn.Embedding(37000, width)) + count(encoder) + count(decoder)

golden = {
    "made_by": "cargo xtask golden generate_sizes",
    "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    "parameters": sizes,
}
pathlib.Path(__file__).with_name("sizes.json").write_text(json.dumps(golden, indent=1) + "\n")
