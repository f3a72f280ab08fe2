"""Fits a line through noisy points by gradient descent, with nothing but the standard library."""

import json
import os
import random

config = json.loads(os.environ["ML_CONFIG"]) if "ML_CONFIG" in os.environ else {}
chosen = config.get("hyperparameters", {})
rate, steps = chosen.get("learning_rate", 0.1), chosen.get("steps", 30)

random.seed(7)
points = [(x / 50, 3 * x / 50 + 1 + random.gauss(0, 0.1)) for x in range(50)]
slope, offset = 0.0, 0.0
for step in range(steps):
    errors = [(slope * x + offset - y, x) for x, y in points]
    slope -= rate * sum(error * x for error, x in errors) / len(points)
    offset -= rate * sum(error for error, _ in errors) / len(points)
    loss = sum(error * error for error, _ in errors) / len(points)
    print(f"step {step + 1}: loss {loss:.4f}", flush=True)
