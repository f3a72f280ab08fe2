"""Say which slots this job was given, and what it can see of the machine. Only the standard library."""

import os
import shutil
import subprocess


def given(name):
    value = os.environ.get(name)
    return "not set" if value is None else value or "empty: none"


def gpus():
    """The GPUs that the driver shows, as `nvidia-smi -L` names them: it does not obey CUDA_VISIBLE_DEVICES, CUDA programs do."""
    if not shutil.which("nvidia-smi"):
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30)
    return [line for line in listed.stdout.splitlines() if line.startswith("GPU ")]


def main():
    kind = os.environ.get("ML_SLOT_TYPE", "")
    slots = [slot for slot in os.environ.get("ML_SLOT_IDS", "").replace(",", " ").split() if slot]
    if kind and slots:
        print(f"this job was given {len(slots)} {kind} slot{'s' if len(slots) != 1 else ''}: {', '.join(slots)}")
    else:
        print("no slots were given: started by hand, or with slots_per_trial: 0")
    for name in ("ML_SLOT_TYPE", "ML_SLOT_IDS", "CUDA_VISIBLE_DEVICES"):
        print(f"  {name}: {given(name)}")

    usable = sorted(os.sched_getaffinity(0))
    print(f"processors: {os.cpu_count()} in the machine, {len(usable)} usable here ({', '.join(map(str, usable))})")
    seen = gpus()
    print(f"GPUs that the driver shows: {len(seen) or 'none'}")
    for line in seen:
        print(f"  {line}")


if __name__ == "__main__":
    main()
