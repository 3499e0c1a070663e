"""PyTorch: MobileNetV2 inference and training steps in channels_last, and BERT's encoder. See worker.py."""

import worker

import torch
import torchvision
from torch import nn

from networks import BertEncoder, images, mobilenet_v2, tokens

torch.set_num_threads(worker.THREADS)


def traced(network, example):
    """As fast as PyTorch offers without a compiler: traced, frozen, convolutions and their BatchNorm folded."""
    with torch.inference_mode():
        frozen = torch.jit.freeze(torch.jit.trace(network.eval(), example))
        return torch.jit.optimize_for_inference(frozen)


def infer(batch):
    x = images(batch).to(memory_format=torch.channels_last)
    network = traced(mobilenet_v2().to(memory_format=torch.channels_last), x)

    def run():
        with torch.inference_mode():
            network(x)

    return run


def train(batch):
    """Forward, cross-entropy, backward, Adam with its fused update."""
    x = images(batch).to(memory_format=torch.channels_last)
    labels = torch.arange(batch) % 1000
    network = mobilenet_v2().to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)

    def run():
        optimizer.zero_grad(set_to_none=True)
        loss = nn.functional.cross_entropy(network(x), labels)
        loss.backward()
        optimizer.step()
        loss.item()

    return run


def encode(batch, length):
    ids = tokens(batch, length)
    network = BertEncoder().eval()

    def run():
        with torch.inference_mode():
            network(ids)

    return run


worker.serve(
    "PyTorch",
    {"torch": torch.__version__.split("+")[0], "torchvision": torchvision.__version__.split("+")[0]},
    {"infer": infer, "train": train, "encode": encode},
)
