"""A small GPT-2 of transformers in f64 with seeded weights: logits, loss, gradients and twenty greedy tokens; and its logits processors."""

import json
import pathlib

import seeded_weights
import torch
import transformers
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.generation.logits_process import (
    LogitsProcessorList, RepetitionPenaltyLogitsProcessor, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper,
)

SIZES = {"vocab_size": 41, "n_positions": 24, "n_embd": 24, "n_layer": 2, "n_head": 3, "n_inner": 40}


def plain(x):
    return {"shape": list(x.shape), "values": [float(f"{v:.7g}") for v in x.detach().flatten().tolist()]}


config = GPT2Config(**SIZES, embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0, bos_token_id=None, eos_token_id=None)
model = GPT2LMHeadModel(config)
names = seeded_weights.fill(model)
model = model.double().eval()
ids = torch.tensor([[5, 17, 3, 40, 0, 22, 9], [1, 1, 2, 38, 12, 7, 30]])
labels = ids.clone()
labels[0, 1] = labels[1, 5:] = -100
result = model(ids, labels=labels)
result.loss.backward()
prompt = [7, 30, 2]
greedy = model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=20, pad_token_id=0)[0, len(prompt):]
# How far the likeliest is before the next: a difference of rounding must not decide.
text = torch.tensor([prompt + greedy.tolist()])
top = model(text).logits.detach()[0, len(prompt) - 1:-1].topk(2).values
margin = float((top[:, 0] - top[:, 1]).min())
assert margin > 1e-3, margin

logits = (torch.randn(30, generator=torch.Generator().manual_seed(20261124)) * 2).to(torch.float32)
logits[11] = logits[4]
seen = [4, 9, 9, 21, 0]
CASES = [
    {"temperature": 0.5}, {"temperature": 1.7}, {"top_k": 1}, {"top_k": 5}, {"top_k": 100}, {"top_p": 0.9}, {"top_p": 0.3},
    {"top_p": 0.01}, {"repetition_penalty": 1.3}, {"repetition_penalty": 0.8},
    {"repetition_penalty": 1.2, "temperature": 0.8, "top_k": 12, "top_p": 0.7},
]
filters = []
for case in CASES:
    chain = LogitsProcessorList()
    if "repetition_penalty" in case:
        chain.append(RepetitionPenaltyLogitsProcessor(case["repetition_penalty"]))
    if "temperature" in case:
        chain.append(TemperatureLogitsWarper(case["temperature"]))
    if "top_k" in case:
        chain.append(TopKLogitsWarper(case["top_k"]))
    if "top_p" in case:
        chain.append(TopPLogitsWarper(case["top_p"]))
    out = chain(torch.tensor([seen]), logits[None].clone())[0]
    filters.append({**case, "logits": [None if v == float("-inf") else v for v in out.tolist()]})

golden = {
    "made_by": "cargo xtask golden generate_gpt",
    "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    "sizes": SIZES, "tensors": names, "ids": ids.tolist(), "labels": labels.tolist(), "logits": plain(result.logits),
    "loss": result.loss.item(), "wte": plain(model.transformer.wte.weight.grad), "wpe": plain(model.transformer.wpe.weight.grad),
    "prompt": prompt, "greedy": greedy.tolist(), "margin": margin,
    "filters": {"logits": logits.tolist(), "seen": seen, "cases": filters},
}
text = json.dumps(golden).replace(', "', ',\n"', 12)
pathlib.Path(__file__).with_name("gpt.json").write_text(text + "\n")
