#!/usr/bin/env bash
# `make test`: every check, each with the time it took; the first that fails ends it.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/lib.sh
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-auto}

lines=()
step() {
    local name=$1 began=$SECONDS
    shift
    printf '\n== %s\n' "$name"
    if ! "$@"; then
        printf '\n== %s: FAILED after %d s: %s\n' "$name" $((SECONDS - began)) "$*" >&2
        exit 1
    fi
    lines+=("$(printf '%-28s %4d s' "$name" $((SECONDS - began)))")
    printf '== %s: ok, %d s\n' "$name" $((SECONDS - began))
}

step 'set-up' scripts/setup.sh test
step 'crates' cargo fetch --locked
step 'format' cargo fmt --all --check
step 'links in the documents' scripts/check-docs.sh
# Advisories need the network on each run and change without us: `cargo deny check advisories` by hand, or in a nightly job.
step 'licences, bans, sources' cargo deny --offline check --hide-inclusion-graph licenses bans sources
step 'clippy' cargo clippy --locked --workspace --all-targets -- -D warnings
# The route without checks is in no other build, and would rot unseen.
step 'clippy, bench' cargo clippy --locked -p bailiwick-bench --features unchecked --all-targets -- -D warnings
step 'tests' scripts/with-postgres.sh cargo test --locked --workspace
step 'build' cargo build --locked -p bailiwick-cli
step 'API fuzz, SQLite' scripts/fuzz-api.sh
step 'API fuzz, PostgreSQL' scripts/with-postgres.sh scripts/fuzz-api.sh --postgres
step 'browser' scripts/browser.sh
step 'demo' env DEMO_EXIT=1 scripts/demo.sh
# In debug, to compile nothing twice; it takes the `ml` beside it.
if [ -e bench/src/torture.rs ]; then
    step 'torture, short' env ML_TORTURE_JOBS=100 ML_TORTURE_KILLS=20 cargo run --locked -p bailiwick-bench -- torture
fi

printf '\n'
printf '%s\n' "${lines[@]}"
printf '%-28s %4d s\n' 'all' "$SECONDS"
