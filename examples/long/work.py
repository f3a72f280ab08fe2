"""Minutes of work in small steps; on SIGTERM it saves a checkpoint and exits 0, and with a checkpoint it goes on from there.

The checkpoint is `checkpoint.json` in the working directory, or where CHECKPOINT says: a job gets a fresh working directory at
each start, so CHECKPOINT should name a place that lasts. Only the standard library.
Try it by hand: start it, press Ctrl-C after some steps, start it again.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

CHECKPOINT = Path(os.environ.get("CHECKPOINT", "checkpoint.json"))

told_to_stop = None


def stop(number, _frame):
    # Only note it: the step under way is finished, so that what is saved is whole.
    global told_to_stop
    told_to_stop = signal.Signals(number).name


def load():
    if not CHECKPOINT.exists():
        return {"step": 0, "primes": 0, "next": 2}
    state = json.loads(CHECKPOINT.read_text())
    print(f"going on from {CHECKPOINT}: step {state['step']}, {state['primes']} primes below {state['next']}")
    return state


def save(state):
    # Written beside and renamed: whoever reads the checkpoint finds the old one or the new one, never half of one.
    beside = CHECKPOINT.with_suffix(".part")
    beside.write_text(json.dumps(state))
    beside.replace(CHECKPOINT)
    print(f"saved {CHECKPOINT.resolve()}: {json.dumps(state)}")


def is_prime(number):
    if number < 4:
        return number > 1
    if number % 2 == 0:
        return False
    return all(number % divisor for divisor in range(3, int(number**0.5) + 1, 2))


def main():
    sys.stdout.reconfigure(line_buffering=True)
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    hp = {"steps": 600, "seconds_per_step": 0.5, **json.loads(os.environ.get("ML_HPARAMS") or "{}")}

    state = load()
    while state["step"] < hp["steps"] and not told_to_stop:
        began = time.monotonic()
        upto = state["next"] + 1000
        state["primes"] += sum(map(is_prime, range(state["next"], upto)))
        state["next"] = upto
        state["step"] += 1
        print(f"step {state['step']}/{hp['steps']}: {state['primes']} primes below {upto}")
        # A signal does not end a sleep early (PEP 475), so sleep in pieces.
        while not told_to_stop and time.monotonic() - began < hp["seconds_per_step"]:
            time.sleep(0.05)
    if told_to_stop:
        print(f"got {told_to_stop} after step {state['step']}, saving")
    save(state)


if __name__ == "__main__":
    main()
