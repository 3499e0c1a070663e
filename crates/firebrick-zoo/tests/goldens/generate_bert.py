"""Small BERTs of transformers in f64 with seeded weights: logits of the heads, losses and gradients of the embeddings."""

import json
import pathlib

import seeded_weights
import torch
import transformers
from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification, BertForTokenClassification

SIZES = {
    "vocab_size": 29, "max_position_embeddings": 12, "type_vocab_size": 2, "hidden_size": 24, "num_hidden_layers": 2,
    "num_attention_heads": 3, "intermediate_size": 40,
}
CLASSES = 5


def plain(x):
    return {"shape": list(x.shape), "values": [float(f"{v:.7g}") for v in x.detach().flatten().tolist()]}


# With a padding id transformers keeps the gradient of its row at zero; here 0 is a word like any other.
config = BertConfig(**SIZES, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, num_labels=CLASSES, pad_token_id=None)
ids = torch.tensor([[2, 17, 3, 28, 0, 11, 9], [2, 1, 21, 8, 3, 0, 0]])
mask = torch.tensor([[1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0, 0]])
types = torch.tensor([[0, 0, 0, 0, 1, 1, 1], [0, 0, 1, 1, 1, 0, 0]])
token_labels = torch.tensor([[-100, 17, -100, 4, 0, -100, -100], [-100, -100, 20, -100, 3, -100, -100]])
CASES = [
    ("masked", BertForMaskedLM, token_labels),
    ("sequences", BertForSequenceClassification, torch.tensor([4, 1])),
    ("tokens", BertForTokenClassification, torch.where(token_labels >= 0, token_labels % CLASSES, token_labels)),
]
cases = []
for name, kind, labels in CASES:
    model = kind(config)
    names = seeded_weights.fill(model)
    model = model.double().eval()
    result = model(ids, attention_mask=mask, token_type_ids=types, labels=labels)
    result.loss.backward()
    embeddings = model.bert.embeddings
    cases.append({
        "name": name, "tensors": names, "labels": labels.flatten().tolist(), "logits": plain(result.logits), "loss": result.loss.item(),
        "words": plain(embeddings.word_embeddings.weight.grad), "positions": plain(embeddings.position_embeddings.weight.grad),
    })

golden = {
    "made_by": "cargo xtask golden generate_bert",
    "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    "sizes": SIZES, "classes": CLASSES, "ids": ids.tolist(), "mask": mask.tolist(), "types": types.tolist(),
}
text = json.dumps(golden)[:-1] + ', "cases": [\n' + ",\n".join(map(json.dumps, cases)) + "\n]}\n"
pathlib.Path(__file__).with_name("bert.json").write_text(text)
