"""Values of seeded_weights.py, for the same formula in Rust to be compared with to the last bit."""

import json
import pathlib

import numpy as np
import seeded_weights

SHAPES = [
    ("conv.weight", [4, 3, 2, 2]), ("fc.weight", [5, 7]), ("norm.weight", [6]), ("norm.bias", [6]), ("norm.running_var", [3]),
    ("norm.running_mean", [3]), ("cls_token", [1, 1, 4]), ("h.0.attn.in_proj_bias", [6]),
]
golden = {
    "made_by": "cargo xtask golden generate_seeded_weights",
    "versions": {"numpy": np.__version__},
    "tensors": [
        {"name": n, "shape": s, "bits": seeded_weights.values(n, s).flatten().view(np.uint32).tolist()} for n, s in SHAPES
    ],
}
path = pathlib.Path(__file__).with_name("seeded_weights.json")
path.write_text(json.dumps(golden).replace('{"name"', '\n{"name"') + "\n")
