#!/usr/bin/env bash
# Kills server and agent at random moments while jobs come and go, and counts what is lost (bench/README.md).
#   scripts/torture.sh [--seed N] [--postgres]        ML_TORTURE_JOBS=100 ML_TORTURE_KILLS=20 scripts/torture.sh
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --locked -p bailiwick-cli
cargo run --locked -p bailiwick-bench -- torture "$@"
