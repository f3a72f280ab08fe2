"""Train two classifiers on handwritten digits and print loss and accuracy after each epoch.

Needs scikit-learn; the 1,797 pictures of 8 x 8 points come with it, so nothing is downloaded.
The hyperparameters of experiment.yaml arrive as JSON in ML_HPARAMS; without it (started by hand) the defaults below hold.
"""

import json
import os
import sys
import time

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import confusion_matrix, log_loss
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

DEFAULTS = {
    "epochs": 12,
    "seed": 7,
    "test_share": 0.25,
    "sgd_learning_rate": 0.01,
    "mlp_hidden": 64,
    "mlp_learning_rate": 0.003,
    "batch_size": 64,
}


def hyperparameters():
    given = json.loads(os.environ.get("ML_HPARAMS") or "{}")
    unknown = sorted(set(given) - set(DEFAULTS))
    if unknown:
        sys.exit(f"unknown hyperparameters: {', '.join(unknown)}; known: {', '.join(DEFAULTS)}")
    return {**DEFAULTS, **given}


def batches(count, size, random):
    order = random.permutation(count)
    for first in range(0, count, size):
        yield order[first : first + size]


def train(name, model, data, hp):
    train_x, test_x, train_y, test_y = data
    random = np.random.default_rng(hp["seed"])
    labels = np.unique(train_y)
    for epoch in range(1, hp["epochs"] + 1):
        began = time.monotonic()
        for rows in batches(len(train_x), hp["batch_size"], random):
            model.partial_fit(train_x[rows], train_y[rows], classes=labels)
        loss = log_loss(train_y, model.predict_proba(train_x), labels=labels)
        train_accuracy = model.score(train_x, train_y)
        test_accuracy = model.score(test_x, test_y)
        print(
            f"{name}  epoch {epoch:2}/{hp['epochs']}  loss {loss:.4f}  train accuracy {train_accuracy:.4f}"
            f"  test accuracy {test_accuracy:.4f}  {time.monotonic() - began:.2f} s"
        )
    return test_accuracy


def main():
    # Through a pipe Python would hold lines back until a buffer is full; a follower wants each at once.
    sys.stdout.reconfigure(line_buffering=True)
    hp = hyperparameters()
    print("hyperparameters:", json.dumps(hp))

    digits = load_digits()
    data = train_test_split(
        digits.data, digits.target, test_size=hp["test_share"], random_state=hp["seed"], stratify=digits.target
    )
    scaler = StandardScaler().fit(data[0])
    data = [scaler.transform(data[0]), scaler.transform(data[1]), data[2], data[3]]
    print(f"{len(data[0])} pictures to learn from, {len(data[1])} to test on")

    models = {
        "sgd": SGDClassifier(
            loss="log_loss", learning_rate="constant", eta0=hp["sgd_learning_rate"], random_state=hp["seed"]
        ),
        "mlp": MLPClassifier(
            hidden_layer_sizes=(hp["mlp_hidden"],),
            learning_rate_init=hp["mlp_learning_rate"],
            random_state=hp["seed"],
        ),
    }
    results = {name: train(name, model, data, hp) for name, model in models.items()}

    best = max(results, key=results.get)
    mistakes = confusion_matrix(data[3], models[best].predict(data[1]))
    np.fill_diagonal(mistakes, 0)
    wrote, read = np.unravel_index(mistakes.argmax(), mistakes.shape)
    print(f"best: {best} with test accuracy {results[best]:.4f}; most often it reads a {wrote} as a {read}")


if __name__ == "__main__":
    main()
