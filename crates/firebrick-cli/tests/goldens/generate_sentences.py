"""Sentence embeddings of all-MiniLM-L6-v2 by transformers in f64, pooled and normalised as sentence-transformers does."""

import json
import os
import pathlib
import sys

import safetensors.torch
import torch
import transformers

cache = os.environ.get("FIREBRICK_CACHE") or pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "firebrick"
folder = pathlib.Path(cache) / "weights" / "all-MiniLM-L6-v2"
if not (folder / "model.safetensors").is_file():
    sys.exit(f"{folder} is not there: fetch it with `cargo xtask assets --fetch`")

# The published config.json, and the length at which sentence-transformers cuts off.
config = transformers.BertConfig(
    vocab_size=30522, hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536,
    max_position_embeddings=512, type_vocab_size=2, hidden_act="gelu", layer_norm_eps=1e-12, attn_implementation="eager")
longest = 256
model = transformers.BertModel(config)
weights = safetensors.torch.load_file(folder / "model.safetensors")
weights.pop("embeddings.position_ids", None)
model.load_state_dict(weights)
model = model.double().eval()
tokenizer = transformers.PreTrainedTokenizerFast(
    tokenizer_file=str(folder / "tokenizer.json"), pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
    model_input_names=["input_ids", "token_type_ids", "attention_mask"])
tokenizer.backend_tokenizer.no_truncation()
tokenizer.backend_tokenizer.no_padding()

sentences = [
    "The cat sits on the mat.",
    "A cat is lying on a rug!",
    "How much memory does training take?",
    "Ünïcödé café, 漢字 and 👩‍🚀 in one line",
    "",
    "One sentence after another, and none of them ends the story. " * 30,
]
inputs = tokenizer(sentences, padding=True, truncation=True, max_length=longest, return_tensors="pt")
with torch.no_grad():
    hidden = model(**inputs).last_hidden_state
mask = inputs["attention_mask"].unsqueeze(-1).double()
pooled = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
embeddings = torch.nn.functional.normalize(pooled, p=2, dim=1)
golden = {
    "made_by": "cargo xtask golden generate_sentences",
    "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    "sentences": sentences, "tokens": [len(tokenizer(sentence)["input_ids"]) for sentence in sentences],
    "embeddings": [[round(value, 7) for value in row] for row in embeddings.tolist()],
}
pathlib.Path(__file__).with_name("sentences.json").write_text(json.dumps(golden, ensure_ascii=False) + "\n", encoding="utf-8")
