# make demo     build, start a server with a small team, run the examples as each of them
# make test     every check, as CI runs it
# make browser  journeys through the pages in a real Chromium, part of make test; ARGS="keyboard" takes one; pictures in target/screenshots
# make torture  kill server and agent at random moments over many jobs, and count what is lost
# make bench    measure, as tables
# make bench-access  access decisions beside other engines, as tables
# make mutants  break the access engine in every way that cargo-mutants knows; each must fail a test (an hour or two; cargo install cargo-mutants --locked)
# What is missing on a fresh Debian with Rust is installed by scripts/setup.sh.

.PHONY: demo test browser torture bench bench-access mutants

# Jobs, environment and all: DEMO_EXIT=1 ends the demo instead of waiting.
demo:
	scripts/setup.sh demo
	cargo build --locked -p bailiwick-cli
	scripts/demo.sh

test:
	scripts/test.sh

# ML_WRITE_IMAGES=1 writes the pictures of the README anew.
browser:
	scripts/setup.sh test
	cargo build --locked -p bailiwick-cli
	scripts/browser.sh $(ARGS)

# ARGS="--seed 7" repeats a run, ARGS=--postgres has it on PostgreSQL.
torture:
	cargo build --release --locked -p bailiwick-cli
	cargo run --release --locked -p bailiwick-bench -- torture $(ARGS)

# Two builds, so that the program that is measured holds nothing of what only the measurement needs.
bench:
	cargo build --release --locked -p bailiwick-cli
	cargo run --release --locked -p bailiwick-bench --features unchecked -- all

# A build of its own, apart from the workspace: the engines compared with are heavy. ARGS="--only medium" takes half a minute, ARGS=--alone leaves the others out.
bench-access:
	cargo run --release --manifest-path bench/access/Cargo.toml --target-dir target/bench-access -- $(ARGS)

# A shorter oracle than in `make test`: what it would find at all, it finds early. ARGS="-f '*/decide.rs'" takes one file.
mutants:
	ORACLE_ANSWERS=20000 PROPTEST_CASES=60 cargo mutants -p bailiwick-access --output target $(ARGS)
