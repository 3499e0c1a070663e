"""PyTorch: inference and training steps of image classifiers in channels_last, and of BERT's encoder. See worker.py."""

import worker

import timm
import torch
import torchvision
from torch import nn

from networks import BertClassifier, BertEncoder, classifier, images, tokens

torch.set_num_threads(worker.THREADS)


def traced(network, example):
    """As fast as PyTorch offers without a compiler: traced, frozen, convolutions and their BatchNorm folded."""
    with torch.inference_mode():
        frozen = torch.jit.freeze(torch.jit.trace(network.eval(), example))
        return torch.jit.optimize_for_inference(frozen)


def infer(batch, network="mobilenet_v2"):
    x = images(batch).to(memory_format=torch.channels_last)
    net = traced(classifier(network).to(memory_format=torch.channels_last), x)

    def run():
        with torch.inference_mode():
            net(x)

    return run


def steps(net, x, labels):
    """Forward, cross-entropy, backward, Adam with its fused update."""
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True)

    def run():
        optimizer.zero_grad(set_to_none=True)
        loss = nn.functional.cross_entropy(net(x), labels)
        loss.backward()
        optimizer.step()
        loss.item()

    return run


def train(batch, network="mobilenet_v2"):
    x = images(batch).to(memory_format=torch.channels_last)
    net = classifier(network).to(memory_format=torch.channels_last).train()
    return steps(net, x, torch.arange(batch) % 1000)


def encode(batch, length):
    ids = tokens(batch, length)
    network = BertEncoder().eval()

    def run():
        with torch.inference_mode():
            network(ids)

    return run


def train_encoder(batch, length):
    return steps(BertClassifier().train(), tokens(batch, length), torch.arange(batch) % BertClassifier.CLASSES)


worker.serve(
    "PyTorch",
    {
        "torch": torch.__version__.split("+")[0],
        "torchvision": torchvision.__version__.split("+")[0],
        "timm": timm.__version__,
    },
    {"infer": infer, "train": train, "encode": encode, "train_encoder": train_encoder},
)
