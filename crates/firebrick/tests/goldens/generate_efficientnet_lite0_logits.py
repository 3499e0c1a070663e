"""Logits of the published EfficientNet-Lite0 for a synthetic image, computed by timm's tf_efficientnet_lite0.

The weights are fetched by `cargo xtask assets --fetch`; their file may be given as the only argument. Its tensors stand in the order of
timm's and have the same shapes.
"""

import hashlib
import os
import pathlib
import sys

import numpy as np
import timm
import torch

SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

CACHE = os.environ.get("FIREBRICK_CACHE", pathlib.Path.home() / ".cache/firebrick")

file = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else f"{CACHE}/weights/efficientnet-lite0-57934424.pth")
assert hashlib.sha256(file.read_bytes()).hexdigest() == SHA256, "another file"
theirs = torch.load(file, weights_only=True, map_location="cpu")
model = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
state = {}
for (name, wanted), (other, tensor) in zip(model.state_dict().items(), theirs.items(), strict=True):
    assert wanted.shape == tensor.shape, (name, other)
    state[name] = tensor
model.load_state_dict(state)

y, x, c = np.meshgrid(np.arange(224), np.arange(224), np.arange(3), indexing="ij")
pixels = ((5 * x + 3 * y + 67 * c) % 256).astype(np.float32)
images = torch.from_numpy((pixels - 127) / 128).permute(2, 0, 1)[None]
with torch.no_grad():
    logits = model(images)[0].tolist()
lines = [
    f"# EfficientNet-Lite0, weights sha256 {SHA256}, image (5x + 3y + 67c) mod 256, input (level - 127) / 128",
    f"# cargo xtask golden efficientnet_lite0: torch {torch.__version__}, timm {timm.__version__}",
    *(f"{logit:.7g}" for logit in logits),
]
pathlib.Path(__file__).with_name("efficientnet_lite0_logits.csv").write_text("\n".join(lines) + "\n")
