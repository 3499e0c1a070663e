"""A table, and what scikit-learn's scaler, imputer and one-hot encoder make of its columns."""

import json
import pathlib

import numpy as np
import sklearn
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OneHotEncoder, StandardScaler

SEED = 20261124
ROWS = 36
TRAIN = 24


def main():
    rng = np.random.default_rng(SEED)
    holes = rng.random((2, ROWS)) < 0.2
    later = np.arange(ROWS) >= TRAIN
    numbers = {
        "small": rng.normal(0.0, 1e-6, ROWS).round(9),
        "large": rng.normal(1e9, 1e5, ROWS).round(),
        "holes": np.where(holes[0], np.nan, rng.normal(5.0, 2.0, ROWS).round(3)),
        # Missing where nothing was learnt of it.
        "late holes": np.where(later & holes[1], np.nan, rng.integers(-9, 9, ROWS)),
        "constant": np.full(ROWS, 0.1),
    }
    texts = {
        "colour": rng.choice(["red", "green", "Blue, dark", "été"], ROWS).astype(object),
        "maybe": np.where(rng.random(ROWS) < 0.3, None, rng.choice(["yes", "no"], ROWS)),
    }
    texts["colour"][TRAIN + 2] = "never seen"
    columns = {**numbers, **texts}
    inputs, names = [], []
    for name, values in columns.items():
        column = np.array(values).reshape(-1, 1)
        if name in numbers:
            scaler = StandardScaler().fit(column[:TRAIN])
            imputer = SimpleImputer(strategy="constant", fill_value=0.0, add_indicator=True)
            imputer.fit(scaler.transform(column[:TRAIN]))
            made = imputer.transform(scaler.transform(column))
            names += [name] + [f"{name} is missing"] * (made.shape[1] - 1)
        else:
            encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(column[:TRAIN])
            made = encoder.transform(column)
            names += [f"{name} is missing" if level is None else f"{name}={level}" for level in encoder.categories_[0]]
        inputs.append(made)

    def cell(value):
        if value is None or value != value:
            return ""
        return f'"{value}"' if "," in str(value) else str(value)

    lines = [",".join([*columns, "target"])]
    lines += [",".join([*(cell(values[row]) for values in columns.values()), str(row % 3)]) for row in range(ROWS)]
    golden = {
        "made_by": "cargo xtask golden table",
        "versions": {"scikit-learn": sklearn.__version__, "numpy": np.__version__},
        "seed": SEED,
        "csv": "\n".join(lines) + "\n",
        "train": TRAIN,
        "names": names,
        "inputs": np.hstack(inputs).tolist(),
    }
    path = pathlib.Path(__file__).with_name("table.json")
    path.write_text(json.dumps(golden, ensure_ascii=False).replace("], [", "],\n[") + "\n")


if __name__ == "__main__":
    main()
