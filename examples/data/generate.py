"""Writes the small data sets of the examples from those that scikit-learn carries: python3 examples/data/generate.py

scikit-learn 1.9.1. The origins and licences are in README.md beside this file.
"""

import pathlib

from sklearn import datasets

HERE = pathlib.Path(__file__).parent


def write(name, columns, rows):
    lines = [",".join(columns)] + [",".join(str(cell) for cell in row) for row in rows]
    (HERE / name).write_text("\n".join(lines) + "\n")


def number(value):
    return f"{value:g}"


def table(name, data, target_name, target):
    columns = [column.replace(" (cm)", "").replace(" ", "_") for column in data.feature_names]
    rows = ([number(x) for x in row] + [target(y)] for row, y in zip(data.data, data.target))
    write(name, columns + [target_name], rows)


iris = datasets.load_iris()
table("iris.csv", iris, "species", lambda y: iris.target_names[y])
cancer = datasets.load_breast_cancer()
# The means alone: their errors and the worst values of each nucleus say much the same.
cancer.data, cancer.feature_names = cancer.data[:, :10], cancer.feature_names[:10]
table("breast_cancer.csv", cancer, "diagnosis", lambda y: cancer.target_names[y])
table("diabetes.csv", datasets.load_diabetes(scaled=False), "progression", number)
digits = datasets.load_digits()
# A third of the images: all of them are more than an example needs.
write(
    "digits.csv",
    [f"p{i}" for i in range(64)] + ["digit"],
    ([number(x) for x in row] + [y] for row, y in list(zip(digits.data, digits.target))[::3]),
)
