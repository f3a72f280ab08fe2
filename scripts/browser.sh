#!/usr/bin/env bash
# Journeys through the pages in a real Chromium, each against a server of its own.   usage: scripts/browser.sh [JOURNEY…]
# What each page looked like is in target/screenshots afterwards.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/lib.sh

ML_PROGRAM=$(ml_program)
[ -x "$ML_PROGRAM" ] || fail "$ML_PROGRAM is not there; run: cargo build -p bailiwick-cli"
[ -e "$browser_packages/.ready" ] || fail "$browser_packages is not there; run: scripts/setup.sh test"
export ML_PROGRAM BROWSER_PACKAGES=$browser_packages
exec node browser/run.js "$@"
