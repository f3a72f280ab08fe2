# What the scripts here share; source it from the repository's root.
# shellcheck shell=bash disable=SC2034

cache=${XDG_CACHE_HOME:-$HOME/.cache}/bailiwick
# Where jobs of the demo find Python. An agent started by root runs each job as an operating-system user of its own, who cannot enter root's home;
# below /tmp and /var/tmp a job sees only what is its own.
if [ "$(id -u)" = 0 ]; then job_python=/var/cache/bailiwick/python; else job_python=$cache/python; fi
fuzz_python=$cache/fuzz-python
# ClearML's own programs, which read what is written for them.
clearml_python=$cache/clearml-python
# Where npm puts the packages of browser/package.json.
browser_packages=$cache/browser
# cargo install puts programs there; it is not on everybody's PATH.
PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin

say() { printf '%s\n' "$*" >&2; }
fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# The directory of initdb and pg_ctl, newest version first; empty where there is none.
postgres_programs() {
    local initdb
    for initdb in "$(command -v initdb)" $(printf '%s\n' /usr/lib/postgresql/*/bin/initdb /usr/pgsql-*/bin/initdb | sort -rV); do
        initdb=$(readlink -e "$initdb") || continue
        if [ -x "$(dirname "$initdb")/pg_ctl" ]; then
            dirname "$initdb"
            return
        fi
    done
}

# The program that `cargo build` makes (or ML_PROGRAM).
ml_program() {
    printf '%s\n' "${ML_PROGRAM:-$(realpath "${CARGO_TARGET_DIR:-target}")/debug/ml}"
}

free_port() {
    /usr/bin/python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}
