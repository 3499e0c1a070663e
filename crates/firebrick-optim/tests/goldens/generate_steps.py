"""What comes between a gradient and a weight, for thirty steps of gradient descent on the problem of generate_optimizers.py, in f64.

Penalties by PyTorch's autograd, clipping by PyTorch's and Keras' own functions, constraints by Keras', averages by PyTorch's
AveragedModel, groups by PyTorch's parameter groups; Lookahead, SAM and the batches that are accumulated are the definition in numpy.
"""

import json
import os
import pathlib

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np
import torch

from generate_optimizers import SEED, gradients, problem

STEPS = 30
RATE = 0.1
keras.config.set_floatx("float64")


class Line(torch.nn.Module):
    def __init__(self, p):
        super().__init__()
        self.w = torch.nn.Parameter(torch.tensor(p["w"]))
        self.b = torch.nn.Parameter(torch.tensor(p["b"]))

    def loss(self, p):
        return ((torch.tensor(p["x"]) @ self.w + self.b - torch.tensor(p["y"])) ** 2).mean()

    def values(self):
        return np.concatenate([v.detach().numpy().ravel() for v in (self.w, self.b)])


def run_torch(p, penalty=None, clip=None, after=None, optimizer=None):
    line = Line(p)
    optimizer = optimizer(line) if optimizer else torch.optim.SGD(line.parameters(), lr=RATE)
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = line.loss(p)
        if penalty:
            loss = loss + penalty(line.w)
        loss.backward()
        if clip:
            clip(list(line.parameters()))
        optimizer.step()
        if after:
            after(line)
    return line


def constrained(p, constraint):
    def after(line):
        value = keras.ops.convert_to_tensor(line.w.detach().numpy(), dtype="float64")
        line.w.data = torch.tensor(keras.ops.convert_to_numpy(constraint(value)), dtype=torch.float64)

    return run_torch(p, after=after).values()


def clipped_by_keras(p, **settings):
    w, b = keras.Variable(p["w"], dtype="float64"), keras.Variable(p["b"], dtype="float64")
    optimizer = keras.optimizers.SGD(RATE, **settings)
    optimizer.build([w, b])
    value = lambda v: keras.ops.convert_to_numpy(v).astype("float64").copy()
    for _ in range(STEPS):
        grads = [keras.ops.convert_to_tensor(g, dtype="float64") for g in gradients(p, value(w), value(b))]
        optimizer.apply(grads, [w, b])
    return np.concatenate([value(w).ravel(), value(b).ravel()])


def averaged(p, average):
    start = Line(p)
    model = torch.optim.swa_utils.AveragedModel(start, multi_avg_fn=average)
    run_torch(p, after=model.update_parameters)
    return model.module.values()


def lookahead(p, k, alpha):
    w, b = p["w"].copy(), p["b"].copy()
    slow = [w.copy(), b.copy()]
    for step in range(1, STEPS + 1):
        gw, gb = gradients(p, w, b)
        w, b = w - RATE * gw, b - RATE * gb
        if step % k == 0:
            slow = [s + alpha * (f - s) for s, f in zip(slow, (w, b))]
            w, b = slow[0].copy(), slow[1].copy()
    return np.concatenate([w.ravel(), b.ravel()])


def sam(p, rho):
    w, b = p["w"].copy(), p["b"].copy()
    for _ in range(STEPS):
        gw, gb = gradients(p, w, b)
        size = np.sqrt((gw**2).sum() + (gb**2).sum()) + 1e-12
        gw, gb = gradients(p, w + rho * gw / size, b + rho * gb / size)
        w, b = w - RATE * gw, b - RATE * gb
    return np.concatenate([w.ravel(), b.ravel()])


def lbfgs(p, rate, calls=2, **settings):
    line = Line(p)
    optimizer = torch.optim.LBFGS(line.parameters(), lr=rate, **settings)

    def closure():
        optimizer.zero_grad()
        loss = line.loss(p)
        loss.backward()
        return loss

    for _ in range(calls):
        optimizer.step(closure)
    return line.values()


def no_decay(line):
    return torch.optim.AdamW([{"params": [line.w]}, {"params": [line.b], "weight_decay": 0.0}], lr=RATE, weight_decay=0.5)


def main():
    p = problem()
    C = keras.constraints
    grad = torch.nn.utils
    swa = torch.optim.swa_utils
    cases = [
        ("torch autograd", {"regularize": "l1=0.05"}, run_torch(p, lambda w: 0.05 * w.abs().sum()).values()),
        ("torch autograd", {"regularize": "l2=0.05"}, run_torch(p, lambda w: 0.05 * (w * w).sum()).values()),
        ("torch autograd", {"regularize": "l1=0.02,l2=0.05"},
         run_torch(p, lambda w: 0.02 * w.abs().sum() + 0.05 * (w * w).sum()).values()),
        ("keras MaxNorm", {"regularize": "max_norm=0.7"}, constrained(p, C.MaxNorm(0.7, axis=0))),
        ("keras UnitNorm", {"regularize": "unit_norm=true"}, constrained(p, C.UnitNorm(axis=0))),
        ("keras NonNeg", {"regularize": "non_negative=true"}, constrained(p, C.NonNeg())),
        ("keras clipvalue", {"clip": "value=0.1"}, clipped_by_keras(p, clipvalue=0.1)),
        ("torch clip_grad_value_", {"clip": "value=0.1"}, run_torch(p, clip=lambda q: grad.clip_grad_value_(q, 0.1)).values()),
        ("keras clipnorm", {"clip": "norm=0.3"}, clipped_by_keras(p, clipnorm=0.3)),
        ("keras global_clipnorm", {"clip": "global_norm=0.3"}, clipped_by_keras(p, global_clipnorm=0.3)),
        ("torch clip_grad_norm_", {"clip": "global_norm=0.3"}, run_torch(p, clip=lambda q: grad.clip_grad_norm_(q, 0.3)).values()),
        ("torch AveragedModel, EMA", {"average": "ema=0.9"}, averaged(p, swa.get_ema_multi_avg_fn(0.9))),
        ("torch AveragedModel, SWA", {"average": "swa=1"}, averaged(p, swa.get_swa_multi_avg_fn())),
        ("numpy Lookahead (arXiv:1907.08610, algorithm 1)", {"lookahead": "k=4,alpha=0.3"}, lookahead(p, 4, 0.3)),
        ("numpy SAM (arXiv:2010.01412, equations 2 and 3)", {"sam": "0.2"}, sam(p, 0.2)),
        ("torch LBFGS", {"lbfgs": "steps=4"}, lbfgs(p, RATE, max_iter=4)),
        # Alone its steps amplify every rounding from the twentieth on: PyTorch's own f32 is 4e-3 from its f64 after fifty.
        ("torch LBFGS", {"lbfgs": "steps=1,history=5", "calls": "20"}, lbfgs(p, RATE, 20, max_iter=1, history_size=5)),
        ("torch LBFGS", {"lbfgs": "", "calls": "50"}, lbfgs(p, RATE, 50)),
        ("torch LBFGS", {"lbfgs": "steps=4,strong_wolfe=true"}, lbfgs(p, RATE, max_iter=4, line_search_fn="strong_wolfe")),
        ("torch AdamW, parameter groups", {"groups": "no_decay=true", "optimizer": "adamw:weight_decay=0.5"},
         run_torch(p, optimizer=no_decay).values()),
    ]
    golden = {
        "made_by": "cargo xtask golden generate_steps",
        "versions": {"torch": torch.__version__, "keras": keras.__version__, "numpy": np.__version__},
        "seed": SEED,
        "rate": RATE,
        "steps": STEPS,
        "problem": {name: value.tolist() for name, value in p.items()},
        "cases": [
            {"source": source, "settings": settings, "values": [float(f"{v:.12g}") for v in values]}
            for source, settings, values in cases
        ],
    }
    path = pathlib.Path(__file__).with_name("steps.json")
    path.write_text(json.dumps(golden, indent=0).replace(",\n", ", ").replace("[\n", "[").replace("\n]", "]") + "\n")


if __name__ == "__main__":
    main()
