"""Fifty steps of every optimizer on a small linear regression, in f64.

The loss is the mean of (x w + b - y)^2; every start value is a multiple of 1/64, so that f32 holds it. PyTorch's
and Keras' optimizers are used where they have the rule; LARS and LAMB with a weight decay, which neither has, are the papers'
rules in numpy. PyTorch's Muon rounds to bfloat16 within its iteration: that rounding is taken out.
"""

import json
import os
import pathlib

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np
import torch

SEED = 20261124
STEPS = 50
SHOWN = (1, 2, 10, 50)

keras.config.set_floatx("float64")


def problem():
    rng = np.random.default_rng(SEED)
    grid = lambda *shape: np.round(rng.normal(size=shape) * 64) / 64
    return {"x": grid(8, 4), "y": grid(8, 3), "w": grid(4, 3), "b": grid(3)}


def gradients(p, w, b):
    residual = p["x"] @ w + b - p["y"]
    return 2 / residual.size * p["x"].T @ residual, 2 / residual.size * residual.sum(0)


def run_torch(p, make, rate):
    # PyTorch's dense weight is [out, in].
    w = torch.nn.Parameter(torch.tensor(p["w"].T.copy()))
    b = torch.nn.Parameter(torch.tensor(p["b"]))
    optimizers = make(w, b, rate)
    for _ in range(STEPS):
        gw, gb = gradients(p, w.detach().numpy().T, b.detach().numpy())
        w.grad, b.grad = torch.tensor(gw.T.copy()), torch.tensor(gb)
        for optimizer in optimizers:
            optimizer.step()
        yield w.detach().numpy().T.copy(), b.detach().numpy().copy()


def run_keras(p, make, rate):
    w, b = keras.Variable(p["w"], dtype="float64"), keras.Variable(p["b"], dtype="float64")
    optimizer = make(rate)
    optimizer.build([w, b])
    value = lambda v: keras.ops.convert_to_numpy(v).astype("float64").copy()
    for _ in range(STEPS):
        grads = [keras.ops.convert_to_tensor(g, dtype="float64") for g in gradients(p, value(w), value(b))]
        optimizer.apply(grads, [w, b])
        yield value(w), value(b)


def run_numpy(p, rule, rate):
    params = [p["w"].copy(), p["b"].copy()]
    states = [{}, {}]
    for t in range(1, STEPS + 1):
        for i, g in enumerate(gradients(p, *params)):
            params[i] = rule(params[i], g, states[i], t, rate)
        yield params[0].copy(), params[1].copy()


def lars(momentum, decay, trust):
    def rule(w, g, state, t, rate):
        size = np.linalg.norm(w)
        local = trust * size / (np.linalg.norm(g) + decay * size)
        state["v"] = momentum * state.get("v", 0) + rate * local * (g + decay * w)
        return w - state["v"]

    return rule


def lamb(decay):
    def rule(w, g, state, t, rate):
        state["m"] = 0.9 * state.get("m", 0) + 0.1 * g
        state["v"] = 0.999 * state.get("v", 0) + 0.001 * g * g
        r = state["m"] / (1 - 0.9**t) / (np.sqrt(state["v"] / (1 - 0.999**t)) + 1e-6) + decay * w
        return w - rate * np.linalg.norm(w) / np.linalg.norm(r) * r

    return rule


def of(cls, **settings):
    return lambda w, b, rate: [cls([w, b], lr=rate, **settings)]


T, K = torch.optim, keras.optimizers
ADAM = {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8}


class Muon(T.Muon):
    """Its iteration works on a copy in bfloat16; here, in f64."""

    def step(self):
        kept, torch.bfloat16 = torch.bfloat16, torch.float64
        try:
            super().step()
        finally:
            torch.bfloat16 = kept


def muon(w, b, rate):
    return [
        Muon([w], lr=rate, adjust_lr_fn="original"),
        T.AdamW([b], lr=rate, weight_decay=0.1),
    ]


CASES = [
    ("torch SGD", {"name": "sgd"}, 0.1, of(T.SGD)),
    ("torch SGD", {"name": "sgd", "momentum": 0.9}, 0.05, of(T.SGD, momentum=0.9)),
    ("torch SGD", {"name": "sgd", "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}, 0.05,
     of(T.SGD, momentum=0.9, nesterov=True, weight_decay=0.01)),
    ("torch Adam", {"name": "adam", **ADAM}, 0.02, of(T.Adam)),
    ("torch AdamW", {"name": "adamw"}, 0.02, of(T.AdamW)),
    ("torch Adam(amsgrad)", {"name": "amsgrad"}, 0.02, of(T.Adam, amsgrad=True)),
    ("torch Adamax", {"name": "adamax"}, 0.02, of(T.Adamax)),
    ("torch NAdam", {"name": "nadam"}, 0.02, of(T.NAdam)),
    ("keras Nadam", {"name": "nadam", "epsilon": 1e-7, "momentum_decay": 1.0}, 0.02, lambda r: K.Nadam(r)),
    ("torch RAdam", {"name": "radam"}, 0.02, of(T.RAdam)),
    ("torch Adagrad", {"name": "adagrad"}, 0.05, of(T.Adagrad)),
    ("keras Adagrad", {"name": "adagrad", "initial_accumulator": 0.1, "epsilon": 1e-7, "epsilon_in_root": True},
     0.05, lambda r: K.Adagrad(r)),
    ("torch Adadelta", {"name": "adadelta"}, 1.0, of(T.Adadelta)),
    ("keras Adadelta", {"name": "adadelta", "rho": 0.95, "epsilon": 1e-7}, 1.0, lambda r: K.Adadelta(r)),
    ("keras RMSprop", {"name": "rmsprop"}, 0.01, lambda r: K.RMSprop(r)),
    ("keras RMSprop", {"name": "rmsprop", "momentum": 0.9, "centered": True}, 0.002,
     lambda r: K.RMSprop(r, momentum=0.9, centered=True)),
    ("torch RMSprop", {"name": "rmsprop", "rho": 0.99, "epsilon": 1e-8, "epsilon_in_root": False, "momentum": 0.9},
     0.002, of(T.RMSprop, momentum=0.9)),
    ("keras Lion", {"name": "lion", "weight_decay": 0.1}, 0.01, lambda r: K.Lion(r, weight_decay=0.1)),
    ("keras Lamb", {"name": "lamb"}, 0.01, lambda r: K.Lamb(r)),
    ("numpy LAMB (arXiv:1904.00962, algorithm 2)", {"name": "lamb", "weight_decay": 0.1}, 0.01, lamb(0.1)),
    ("numpy LARS (arXiv:1708.03888, algorithm 1)", {"name": "lars", "trust_coefficient": 0.02}, 1.0,
     lars(0.9, 1e-4, 0.02)),
    ("torch Adafactor", {"name": "adafactor", "weight_decay": 0.01}, 0.05,
     of(T.Adafactor, eps=(2.0**-23, 1e-3), weight_decay=0.01)),
    ("torch Muon without its bfloat16 rounding", {"name": "muon"}, 0.02, muon),
]


# With their own defaults. PyTorch's Adafactor takes its epsilon by the type, of f32 here.
PRESETS = [
    ("torch", "sgd", 0.1, of(T.SGD)), ("torch", "adam", 0.02, of(T.Adam)), ("torch", "adamw", 0.02, of(T.AdamW)),
    ("torch", "amsgrad", 0.02, of(T.Adam, amsgrad=True)), ("torch", "adamax", 0.02, of(T.Adamax)),
    ("torch", "nadam", 0.02, of(T.NAdam)), ("torch", "radam", 0.02, of(T.RAdam)), ("torch", "adagrad", 0.05, of(T.Adagrad)),
    ("torch", "adadelta", 1.0, of(T.Adadelta)), ("torch", "rmsprop", 0.002, of(T.RMSprop)),
    ("torch", "adafactor", 0.05, of(T.Adafactor, eps=(2.0**-23, 1e-3))), ("torch", "muon", 0.02, muon),
    ("keras", "sgd", 0.1, K.SGD), ("keras", "adam", 0.02, K.Adam), ("keras", "adamw", 0.02, K.AdamW),
    ("keras", "amsgrad", 0.02, lambda r: K.Adam(r, amsgrad=True)), ("keras", "adamax", 0.02, K.Adamax),
    ("keras", "nadam", 0.02, K.Nadam), ("keras", "adagrad", 0.05, K.Adagrad), ("keras", "adadelta", 1.0, K.Adadelta),
    ("keras", "rmsprop", 0.01, K.RMSprop), ("keras", "lion", 0.01, K.Lion), ("keras", "lamb", 0.01, K.Lamb),
]


def presets(p):
    for framework, name, rate, make in PRESETS:
        *_, last = {"torch": run_torch, "keras": run_keras}[framework](p, make, rate)
        values = [float(f"{v:.12g}") for v in np.concatenate([a.ravel() for a in last])]
        yield {"framework": framework, "name": name, "rate": rate, "values": values}


def main():
    p = problem()
    cases = []
    for source, config, rate, make in CASES:
        run = {"torch": run_torch, "keras": run_keras, "numpy": run_numpy}[source.split()[0]]
        path = list(run(p, make, rate))
        steps = {str(s): [float(f"{v:.12g}") for v in np.concatenate([a.ravel() for a in path[s - 1]])] for s in SHOWN}
        cases.append({"source": source, "config": config, "rate": rate, "steps": steps})
    golden = {
        "made_by": "cargo xtask golden generate_optimizers",
        "versions": {"torch": torch.__version__, "keras": keras.__version__, "numpy": np.__version__},
        "seed": SEED,
        "problem": {name: value.tolist() for name, value in p.items()},
        "cases": cases,
    }
    write("optimizers.json", golden)
    write("presets.json", {name: golden[name] for name in ("made_by", "versions", "seed")} | {"presets": list(presets(p))})


def write(name, golden):
    text = json.dumps(golden, indent=0).replace(",\n", ", ").replace("[\n", "[").replace("\n]", "]") + "\n"
    pathlib.Path(__file__).with_name(name).write_text(text)


if __name__ == "__main__":
    main()
