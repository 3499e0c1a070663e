"""Layers by PyTorch and torchvision in f64: results and the gradients of a weighted sum, for inputs and every parameter."""

import json
import math
import pathlib

import torch
import torchvision
from torch import nn

torch.manual_seed(20261126)
torch.set_default_dtype(torch.float64)
cases = []


def plain(x):
    return {"shape": list(x.shape), "values": [float(f"{v:.8g}") for v in x.detach().flatten().tolist()]}


def rounded(*shape, scale=1.0):
    return (torch.randn(*shape) * scale * 64).round() / 64


def case(name, module, *inputs, parameters=None, differentiable=1):
    """A weighted sum of the result, whose weights differ, is differentiated."""
    for parameter in module.parameters():
        parameter.data = (parameter.data + 0.1 * torch.randn_like(parameter) * 1.0)
        parameter.data = (parameter.data * 256).round() / 256
    leaves = [x.clone().requires_grad_() if i < differentiable else x for i, x in enumerate(inputs)]
    y = module(*leaves)
    weights = 1 + 0.125 * (torch.arange(y.numel()) % 17).reshape(y.shape)
    (y * weights).sum().backward()
    parameters = parameters or dict(module.named_parameters())
    cases.append({
        "name": name, "inputs": [plain(x) for x in inputs], "output": plain(y),
        "gradient": plain(leaves[0].grad) if differentiable else None,
        "parameters": {k: plain(p) for k, p in parameters.items()},
        "gradients": {k: plain(p.grad) for k, p in parameters.items() if p.grad is not None},
    })


case("linear", nn.Linear(5, 3), rounded(2, 4, 5))
case("conv1d", nn.Conv1d(3, 4, 3, stride=2, padding=1), rounded(2, 3, 9))
case("conv2d", nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), groups=2), rounded(2, 4, 6, 5))
case("conv3d", nn.Conv3d(2, 3, 2, padding=1), rounded(1, 2, 3, 3, 2))
case("conv_transpose1d", nn.ConvTranspose1d(3, 2, 3, stride=2, padding=1, output_padding=1), rounded(2, 3, 4))
case("conv_transpose2d", nn.ConvTranspose2d(3, 2, 3, stride=2, padding=1), rounded(1, 3, 3, 4))
case("conv_transpose3d", nn.ConvTranspose3d(2, 2, 2, stride=2), rounded(1, 2, 2, 2, 2))
case("depthwise2d", nn.Conv2d(4, 4, 3, padding=1, groups=4), rounded(1, 4, 5, 4))


class Separable(nn.Module):
    def __init__(self):
        super().__init__()
        self.depthwise = nn.Conv2d(3, 3, 3, stride=2, padding=1, groups=3, bias=False)
        self.pointwise = nn.Conv2d(3, 4, 1)

    def forward(self, x):
        return self.pointwise(self.depthwise(x))


case("separable2d", Separable(), rounded(2, 3, 5, 6))
case("batch_norm", nn.BatchNorm2d(3), rounded(3, 3, 2, 3))
case("layer_norm", nn.LayerNorm(6), rounded(3, 2, 6))
case("group_norm", nn.GroupNorm(2, 6), rounded(2, 6, 3))
case("instance_norm", nn.InstanceNorm2d(3, affine=True), rounded(2, 3, 3, 4))
case("rms_norm", nn.RMSNorm(6, eps=1e-5), rounded(3, 6))
case("max_pool2d", nn.MaxPool2d(3, 2, padding=1), rounded(2, 2, 6, 5))
case("avg_pool2d", nn.AvgPool2d(2, 2, count_include_pad=True), rounded(2, 2, 6, 5))
case("adaptive_avg_pool2d", nn.AdaptiveAvgPool2d((3, 2)), rounded(2, 2, 7, 5))


class Blur(nn.Module):
    def forward(self, x):
        a = torch.tensor([1.0, 2.0, 1.0])
        kernel = (a[:, None] * a[None] / 16).expand(x.shape[1], 1, 3, 3)
        return nn.functional.conv2d(nn.functional.pad(x, (1, 1, 1, 1), mode="reflect"), kernel, stride=2, groups=x.shape[1])


case("blur_pool", Blur(), rounded(2, 3, 6, 5))
case("squeeze_excite", torchvision.ops.SqueezeExcitation(4, 2), rounded(2, 4, 3, 3))


class Scale(nn.Module):
    def __init__(self):
        super().__init__()
        self.gamma = nn.Parameter(torch.full((5,), 0.1))

    def forward(self, x):
        return x * self.gamma


case("layer_scale", Scale(), rounded(2, 3, 5))


class Patches(nn.Module):
    def __init__(self):
        super().__init__()
        self.project = nn.Conv2d(3, 5, 2, stride=2)

    def forward(self, x):
        return self.project(x).flatten(2).transpose(1, 2)


case("patch_embedding", Patches(), rounded(2, 3, 4, 6))

case("max_pool1d", nn.MaxPool1d(3, 2, padding=1), rounded(2, 3, 8))
case("avg_pool1d", nn.AvgPool1d(3, 2), rounded(2, 3, 9))
case("adaptive_avg_pool1d", nn.AdaptiveAvgPool1d(3), rounded(2, 3, 8))
case("adaptive_avg_pool3d", nn.AdaptiveAvgPool3d((2, 3, 2)), rounded(1, 2, 5, 4, 3))
case("adaptive_max_pool2d", nn.AdaptiveMaxPool2d((3, 2)), rounded(2, 2, 7, 5))
case("global_avg_pool2d", nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), rounded(2, 3, 5, 4))
case("conv2d_dilated", nn.Conv2d(2, 3, 3, padding=2, dilation=2), rounded(1, 2, 6, 5))
case("embedding", nn.Embedding(7, 4), torch.tensor([[1, 0, 6], [3, 3, 1]]), differentiable=0)


class Learned(nn.Module):
    """The first rows of a table, added: the positions of BERT."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(6, 5)

    def forward(self, x):
        return x + self.table(torch.arange(x.shape[1]))


case("learned_positions", Learned(), rounded(2, 4, 5))

golden = {"made_by": "cargo xtask golden generate_layers", "versions": {"torch": torch.__version__, "torchvision": torchvision.__version__}}
head = json.dumps(golden)[:-1]
names = [c["name"] for c in cases]
norms, pools = names.index("batch_norm"), names.index("max_pool1d")
for file, part in (("layers_conv", cases[:norms]), ("layers", cases[norms:pools]), ("layers_pool", cases[pools:])):
    text = head + ', "cases": [\n' + ",\n".join(map(json.dumps, part)) + "\n]}\n"
    pathlib.Path(__file__).with_name(f"{file}.json").write_text(text)
