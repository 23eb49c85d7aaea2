"""Three loops that train something, each a function that makes one step: what watching could slow down."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np


def pure_python() -> Callable[[], object]:
    """Logistic regression by stochastic gradient descent, over lists: it holds the GIL throughout."""
    chance = random.Random(0)
    rows = [[chance.gauss(0, 1) for _ in range(20)] for _ in range(50)]
    weights = [0.0] * 20

    def step() -> None:
        for row in rows:
            guess = 1 / (1 + 2.718281828 ** -sum(w * x for w, x in zip(weights, row, strict=True)))
            error = guess - (row[0] > 0)
            for index, x in enumerate(row):
                weights[index] -= 0.01 * error * x

    return step


def numpy() -> Callable[[], object]:
    """Two dense layers, forwards and backwards: matrix products, which let go of the GIL."""
    chance = np.random.default_rng(0)
    data, target = chance.normal(size=(256, 256)), chance.normal(size=(256, 1))
    first, second = chance.normal(size=(256, 256)) / 16, chance.normal(size=(256, 1)) / 16

    def step() -> None:
        hidden = np.maximum(data @ first, 0)
        error = hidden @ second - target
        back = (error @ second.T) * (hidden > 0)
        second[:] -= 1e-4 * hidden.T @ error
        first[:] -= 1e-4 * data.T @ back

    return step


def scikit_learn() -> Callable[[], object]:
    """SGDClassifier.partial_fit over small batches: Python around compiled code."""
    from sklearn.linear_model import SGDClassifier

    chance = np.random.default_rng(0)
    data = chance.normal(size=(500, 50))
    target = data[:, 0] > 0
    model = SGDClassifier(random_state=0)
    return lambda: model.partial_fit(data, target, classes=[False, True])


LOOPS = {"pure Python": pure_python, "NumPy": numpy, "scikit-learn": scikit_learn}
