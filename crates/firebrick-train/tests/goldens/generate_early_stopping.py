"""Where Keras' EarlyStopping stops and whose weights it restores, for random figures and settings.

The model is a stand-in whose weights are the number of epochs that it has seen.
"""

import json
import pathlib

import keras
import numpy as np

SEED = 20261123
CASES = 60


class Model:
    stop_training = False
    weights = 0

    def get_weights(self):
        return self.weights

    def set_weights(self, weights):
        self.weights = weights


def run(settings, figures):
    callback = keras.callbacks.EarlyStopping(**settings)
    model = Model()
    callback.set_model(model)
    callback.on_train_begin()
    for epoch, figure in enumerate(figures):
        model.weights = epoch + 1
        callback.on_epoch_end(epoch, {settings["monitor"]: figure})
        if model.stop_training:
            break
    epochs = epoch + 1
    callback.on_train_end()
    return {"epochs": epochs, "weights": model.weights}


def main():
    rng = np.random.default_rng(SEED)
    cases = []
    for case in range(CASES):
        accuracy = bool(case % 2)
        length = int(rng.integers(1, 16))
        trend = np.linspace(0.2, 0.8, length) if accuracy else np.linspace(0.8, 0.2, length)
        figures = np.round(trend * rng.random() + rng.normal(0.0, 0.1, length), 2)
        if case % 10 == 9:
            figures[length // 2] = np.nan
        settings = {
            "monitor": "val_accuracy" if accuracy else "val_loss",
            "mode": str(rng.choice(["max" if accuracy else "min"] * 3 + ["min" if accuracy else "max"])),
            "min_delta": float(rng.choice([0.0, 0.0, 0.03, -0.03])),
            "patience": int(rng.integers(0, 5)),
            "baseline": [None, None, 0.4][int(rng.integers(3))],
            "restore_best_weights": bool(rng.integers(2)),
            "start_from_epoch": int(rng.choice([0, 0, 0, 2, 5])),
        }
        result = run(settings, [float(figure) for figure in figures])
        shown = [None if np.isnan(figure) else float(figure) for figure in figures]
        cases.append({**settings, "figures": shown, **result})
    golden = {
        "made_by": "cargo xtask golden early_stopping",
        "versions": {"keras": keras.__version__, "numpy": np.__version__},
        "seed": SEED,
        "cases": cases,
    }
    path = pathlib.Path(__file__).with_name("early_stopping.json")
    path.write_text(json.dumps(golden, indent=0).replace("\n\"", " \"").replace(",\n", ", ") + "\n")


if __name__ == "__main__":
    main()
