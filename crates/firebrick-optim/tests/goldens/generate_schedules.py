"""Two hundred steps of PyTorch's and Keras' learning-rate schedules, and Keras' ReduceLROnPlateau on random figures."""

import json
import os
import pathlib

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np
import torch

SEED = 20261124
STEPS = 200
BASE = 0.5
L, S = torch.optim.lr_scheduler, keras.optimizers.schedules


def run_torch(make):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=BASE)
    schedule = make(optimizer)
    for step in range(STEPS):
        yield optimizer.param_groups[0]["lr"]
        if step < STEPS - 1:
            optimizer.step()
            schedule.step()


def run_keras(schedule):
    for step in range(STEPS):
        yield float(schedule(step))


def warm(optimizer, start, steps, then):
    return L.SequentialLR(optimizer, [L.LinearLR(optimizer, start, 1.0, steps), then(optimizer)], [steps])


NOAM = lambda t: 64**-0.5 * min((t + 1) ** -0.5, (t + 1) * 40**-1.5)
CASES = [
    ("torch ConstantLR", "constant", lambda o: L.ConstantLR(o, 1.0)),
    ("torch StepLR", "step:every=30", lambda o: L.StepLR(o, 30)),
    ("torch MultiStepLR", "multi_step:at=[20,50,120],factor=0.3", lambda o: L.MultiStepLR(o, [20, 50, 120], 0.3)),
    ("torch ExponentialLR", "exponential:factor=0.97", lambda o: L.ExponentialLR(o, 0.97)),
    ("keras ExponentialDecay", "exponential:factor=0.5,every=40", S.ExponentialDecay(BASE, 40, 0.5)),
    ("torch PolynomialLR", "polynomial:power=2", lambda o: L.PolynomialLR(o, STEPS, 2.0)),
    ("keras PolynomialDecay", "polynomial:power=0.5,end=0.02", S.PolynomialDecay(BASE, STEPS, BASE * 0.02, 0.5)),
    ("torch CosineAnnealingLR", "cosine:end=0.01", lambda o: L.CosineAnnealingLR(o, STEPS, BASE * 0.01)),
    ("keras CosineDecay", "cosine:end=0.01", S.CosineDecay(BASE, STEPS, 0.01)),
    ("torch CosineAnnealingWarmRestarts", "cosine_restarts:first=25,growth=2,end=0.1",
     lambda o: L.CosineAnnealingWarmRestarts(o, 25, 2, BASE * 0.1)),
    ("torch CosineAnnealingWarmRestarts", "cosine_restarts:first=30", lambda o: L.CosineAnnealingWarmRestarts(o, 30)),
    ("torch LinearLR", "linear:start=0.2,end=0.9", lambda o: L.LinearLR(o, 0.2, 0.9, STEPS)),
    ("torch OneCycleLR", "one_cycle", lambda o: L.OneCycleLR(o, BASE, total_steps=STEPS)),
    ("torch LambdaLR of the paper's equation", "noam:width=64,warmup_steps=40", lambda o: L.LambdaLR(o, NOAM)),
    ("torch SequentialLR", "cosine:warmup=20,warmup_start=0.1",
     lambda o: warm(o, 0.1, 20, lambda o: L.CosineAnnealingLR(o, STEPS - 20))),
    ("torch SequentialLR", "step:every=50,warmup=10,warmup_start=0.5",
     lambda o: warm(o, 0.5, 10, lambda o: L.StepLR(o, 50))),
]


class Model:
    def __init__(self, rate):
        self.optimizer = keras.optimizers.SGD(rate)


def plateau(rng, case):
    maximize = bool(case % 2)
    settings = {
        "factor": float(rng.choice([0.1, 0.5])),
        "patience": int(rng.integers(0, 5)),
        "min_delta": float(rng.choice([0.0, 1e-4, 0.05])),
        "cooldown": int(rng.integers(0, 4)),
        "min_lr": float(rng.choice([0.0, 0.0, 0.01])),
    }
    figures = np.round(rng.normal(0.5, 0.1, STEPS) + np.linspace(0, 0.3, STEPS) * (1 if maximize else -1), 2)
    callback = keras.callbacks.ReduceLROnPlateau("figure", mode="max" if maximize else "min", **settings)
    model = Model(BASE)
    callback.set_model(model)
    callback.on_train_begin()
    drops, rate = [], BASE
    for epoch, figure in enumerate(figures):
        callback.on_epoch_end(epoch, {"figure": float(figure)})
        now = float(keras.ops.convert_to_numpy(model.optimizer.learning_rate))
        if now != rate:
            drops.append([epoch, now])
            rate = now
    settings["min_rate"] = settings.pop("min_lr")
    return {"config": {**settings, "maximize": maximize}, "figures": figures.tolist(), "drops": drops}


def main():
    rng = np.random.default_rng(SEED)
    cases = []
    for source, text, make in CASES:
        rates = list(run_torch(make) if source.startswith("torch") else run_keras(make))
        cases.append({"source": source, "schedule": text, "rates": [float(f"{rate:.8g}") for rate in rates]})
    golden = {
        "made_by": "cargo xtask golden generate_schedules",
        "versions": {"torch": torch.__version__, "keras": keras.__version__, "numpy": np.__version__},
        "seed": SEED,
        "base": BASE,
        "cases": cases,
        "plateaus": [plateau(rng, case) for case in range(6)],
    }
    path = pathlib.Path(__file__).with_name("schedules.json")
    path.write_text(json.dumps(golden, separators=(",", ":")).replace("},{", "},\n{") + "\n")


if __name__ == "__main__":
    main()
