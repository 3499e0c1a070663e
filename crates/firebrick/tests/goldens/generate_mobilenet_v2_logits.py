"""Logits of torchvision's MobileNetV2 checkpoint for a synthetic image, with the architecture written out here.

Needs no torchvision: the checkpoint of assets/ is loaded into plain torch.nn modules under torchvision's names.
"""

import pathlib

import torch
from torch import nn

HERE = pathlib.Path(__file__).parent
CHECKPOINT = HERE / "../../../../assets/mobilenet_v2-b0353104.pth"
STAGES = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]


def conv(inputs, outputs, kernel=3, stride=1, groups=1):
    pad = (kernel - 1) // 2
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, pad, groups=groups, bias=False), nn.BatchNorm2d(outputs), nn.ReLU6()
    )


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride, expansion):
        super().__init__()
        wide = inputs * expansion
        layers = [conv(inputs, wide, 1)] if expansion > 1 else []
        layers += [conv(wide, wide, 3, stride, wide), nn.Conv2d(wide, outputs, 1, bias=False), nn.BatchNorm2d(outputs)]
        self.conv = nn.Sequential(*layers)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x):
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNetV2(nn.Module):
    def __init__(self):
        super().__init__()
        layers, channels = [conv(3, 32, 3, 2)], 32
        for expansion, outputs, repeats, stride in STAGES:
            for repeat in range(repeats):
                layers.append(Block(channels, outputs, stride if repeat == 0 else 1, expansion))
                channels = outputs
        self.features = nn.Sequential(*layers, conv(channels, 1280, 1))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, 1000))

    def forward(self, x):
        return self.classifier(self.features(x).mean([2, 3]))


def main():
    model = MobileNetV2().eval()
    model.load_state_dict(torch.load(CHECKPOINT, weights_only=True))
    y, x, c = torch.meshgrid(torch.arange(224), torch.arange(224), torch.arange(3), indexing="ij")
    image = ((5 * x + 3 * y + 67 * c) % 256).float() / 255
    image = (image - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        logits = model(image.permute(2, 0, 1)[None])[0]
    path = HERE / "mobilenet_v2_logits.csv"
    head = [line for line in path.read_text().splitlines() if line.startswith("#")]
    path.write_text("\n".join(head + [f"{value:.6f}" for value in logits.tolist()]) + "\n")


if __name__ == "__main__":
    main()
