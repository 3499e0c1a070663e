"""One training step of torchvision's MobileNetV2 checkpoint in f64: features, every parameter's gradient, every running statistic.

Each tensor is reduced to its norm and its product with a fixed direction, which a wrong element changes. The architecture is the one
written out in generate_mobilenet_v2_logits.py.
"""

import pathlib

import torch

from generate_mobilenet_v2_logits import CHECKPOINT, MobileNetV2

HERE = pathlib.Path(__file__).parent


def direction(count):
    return ((torch.arange(count, dtype=torch.int64) * 37) % 101).double() / 50 - 1


def figures(tensor):
    flat = tensor.detach().double().reshape(-1)
    return f"{flat.norm().item():.9e},{(flat * direction(flat.numel())).sum().item():.9e}"


def main():
    model = MobileNetV2()
    model.load_state_dict(torch.load(CHECKPOINT, weights_only=True))
    model = model.double().train()
    n, y, x, c = torch.meshgrid(*(torch.arange(size) for size in (4, 64, 64, 3)), indexing="ij")
    images = (((5 * x + 3 * y + 67 * c + 29 * n + x * y % 13) % 256).double() / 128 - 1).float().double()
    features = model.features(images.permute(0, 3, 1, 2)).mean([2, 3])
    (features.reshape(-1) * direction(features.numel())).sum().backward()
    lines = [
        "# name, norm, product with the direction ((37 i) mod 101) / 50 - 1",
        f"# torch {torch.__version__.split('+')[0]}, f64, batch norm with the statistics of the batch, momentum 0.1",
        "# cargo xtask golden generate_mobilenet_v2_training",
        f"features,{figures(features)}",
    ]
    for name, parameter in model.features.named_parameters():
        lines.append(f"features.{name},{figures(parameter.grad)}")
    for name, buffer in model.features.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            lines.append(f"features.{name},{figures(buffer)}")
    (HERE / "mobilenet_v2_training.csv").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
