"""Goldens of positions for another image size and of first convolutions for other channels.

    python generate_positions.py

writes positions.json: what torchvision's `interpolate_embeddings`, timm's `resample_abs_pos_embed` and timm's `adapt_input_conv` make of
values by a formula (seeded_weights.uniform).
"""

import json
import pathlib

import timm
import torch
import torchvision
from timm.layers import resample_abs_pos_embed
from timm.models import adapt_input_conv
from torchvision.models.vision_transformer import interpolate_embeddings

import seeded_weights

WIDTH = 2


def uniform(name, shape):
    values = seeded_weights.uniform(name, torch.Size(shape).numel())
    return torch.from_numpy(values.reshape(shape)).float()


def listed(tensor):
    return [float(f"{value:.9g}") for value in tensor.reshape(-1).tolist()]


def main():
    out = {
        "made_by": f"python generate_positions.py: torch {torch.__version__}, torchvision {torchvision.__version__}, timm {timm.__version__}",
        "width": WIDTH,
        "positions": [],
        "channels": [],
    }
    for before, after in [([7, 7], [7, 7]), ([4, 4], [7, 7]), ([7, 7], [3, 3]), ([7, 7], [1, 1]), ([7, 7], [5, 9])]:
        name = f"positions {before[0]} {after}"
        values = uniform(name, [1, 1 + before[0] * before[1], WIDTH])
        record = {"name": name, "from": before, "to": after}
        record["antialiased"] = listed(resample_abs_pos_embed(values, new_size=after, old_size=before))
        record["aligned_corners"] = None
        if after[0] == after[1]:
            state = {"encoder.pos_embedding": values.clone()}
            state = interpolate_embeddings(16 * after[0], 16, state)
            record["aligned_corners"] = listed(state["encoder.pos_embedding"])
        out["positions"].append(record)
    for channels in [1, 2, 4, 7]:
        weight = uniform(f"channels {channels}", [2, 3, 2, 2])
        out["channels"].append({"channels": channels, "weight": listed(adapt_input_conv(channels, weight))})
    path = pathlib.Path(__file__).parent / "positions.json"
    path.write_text(json.dumps(out, separators=(",", ":")).replace('"name":', '\n"name":') + "\n")


if __name__ == "__main__":
    main()
