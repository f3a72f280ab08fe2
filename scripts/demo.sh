#!/usr/bin/env bash
# `make demo`: a server with its built-in agent in a fresh directory, a small team, and what each of them may do and see.
# --exit (or DEMO_EXIT=1) ends it at once instead of waiting for Enter.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/lib.sh
case ${1:-} in
    --exit) DEMO_EXIT=1 ;;
    '') ;;
    *) fail "usage: scripts/demo.sh [--exit]" ;;
esac

ml=$(ml_program)
[ -x "$ml" ] || fail "$ml is not there; run: make demo"
[ -e "$job_python/bin/python3" ] || fail "$job_python is not there; run: scripts/setup.sh demo"

# Not below TMPDIR: jobs may run as another operating-system user, who must be able to come by.
dir=$(mktemp -d /tmp/bailiwick-demo.XXXXXX)
chmod 711 "$dir"
export ML_HOME=$dir/home
unset ML_API_KEY ML_SERVER
server=

# shellcheck disable=SC2317 # called by trap
stop() {
    trap - EXIT INT TERM HUP
    # Jobs outlive a server that ends, as they should; here they go first. Whatever does not end that way ends with its supervisor.
    if [ -n "$server" ] && kill -0 "$server" 2>/dev/null; then
        local left
        left=$("$ml" -u admin status --all -o csv 2>/dev/null | awk -F, 'NR > 1 && /QUEUED|STARTING|RUNNING|STOPPING/ { print $1 }') || true
        # shellcheck disable=SC2086 # ids, one word each
        [ -z "$left" ] || "$ml" -u admin kill $left >/dev/null 2>&1 || true
        for _ in $(seq 100); do
            compgen -G "$dir/data/agent/jobs/*/shim.lock" >/dev/null || break
            sleep 0.1
        done
    fi
    if [ -n "$server" ] && kill -TERM "$server" 2>/dev/null; then
        printf '\nstopping the server\n'
        for _ in $(seq 300); do
            kill -0 "$server" 2>/dev/null || break
            sleep 0.1
        done
        kill -KILL "$server" 2>/dev/null || true
    fi
    local lock
    for lock in "$dir"/data/agent/jobs/*/shim.lock; do
        [ ! -s "$lock" ] || kill -KILL "$(cat "$lock")" 2>/dev/null || true
    done
    rm -rf "$dir"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

bold='' plain=''
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
    bold=$'\e[1m' plain=$'\e[0m'
fi
title() { printf '\n%s== %s%s\n' "$bold" "$*" "$plain"; }
shown() { printf '\n%s$ ml%s%s\n' "$bold" "$(printf ' %q' "$@")" "$plain"; }
run() {
    shown "$@"
    "$ml" "$@" </dev/null 2>&1
}
# The same for what prints a list: a table also where this goes to a file.
list() {
    if [ -t 1 ]; then run "$@"; else run "$@" -o table; fi
}
# must_be STATE EXPERIMENT
must_be() {
    [[ $("$ml" -u admin status "$2" -o csv) == *"$1"* ]] || fail "$2 should be $1"
}
# refused SENTENCE ARGUMENTS…: the command must fail, and say this.
refused() {
    local sentence=$1 said outcome=0
    shift
    shown "$@"
    said=$("$ml" "$@" </dev/null 2>&1) || outcome=$?
    printf '%s\n' "$said"
    [ "$outcome" != 0 ] || fail "that should have been refused"
    [[ $said == *"$sentence"* ]] || fail "that should have been refused with: $sentence"
}

title 'A server with its built-in agent, on SQLite, in a fresh directory'
mkdir "$dir/passwords"
chmod 700 "$dir/passwords"
for name in admin ana ben vic; do
    head -c 15 /dev/urandom | base64 >"$dir/passwords/$name"
done
url=http://127.0.0.1:$(free_port)
serve=(serve --data "$dir/data" --listen "${url#http://}" --admin-password-file "$dir/passwords/admin"
    --set "agent.job_env.PATH=$job_python/bin:/usr/local/bin:/usr/bin:/bin")
shown "${serve[@]}"
"$ml" "${serve[@]}" >"$dir/server.log" 2>&1 </dev/null &
server=$!
ready() { /usr/bin/python3 -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=5)' "$url/readyz" 2>/dev/null; }
for _ in $(seq 100); do
    ready && break
    kill -0 "$server" 2>/dev/null || { cat "$dir/server.log" >&2; fail 'the server ended'; }
    sleep 0.1
done
ready || { cat "$dir/server.log" >&2; fail 'the server is not ready after 10 s'; }
cat "$dir/server.log"

title 'The team: an administrator, two data scientists, a viewer'
run login admin --server "$url" --password-file "$dir/passwords/admin"
list user create ana --password-file "$dir/passwords/ana"
list user create ben --password-file "$dir/passwords/ben"
list user create vic --role OwnViewer --password-file "$dir/passwords/vic"
for name in ana ben vic; do
    run login "$name" --server "$url" --password-file "$dir/passwords/$name"
done
list -u admin user list

title 'ana and ben submit experiments'
list -u ana run examples/digits
list -u ben run examples/gpu-or-cpu
list -u ana run examples/long

title "ana follows one log"
run -u ana logs digits --follow

title 'ml status as each of them'
for name in ana ben vic admin; do
    list -u "$name" status
done
run -u ben logs gpu-or-cpu --follow

title "What is refused"
refused 'You can only cancel your own jobs' -u ben cancel long
refused 'Insufficient permissions' -u vic run examples/gpu-or-cpu

title "The administrator cancels ana's long run, which saves its work"
# Where ana's other job took the only slot, this one has just begun.
for _ in $(seq 100); do
    [[ $("$ml" -u ana logs long --tail 1 2>/dev/null) == step* ]] && break
    sleep 0.1
done
list -u admin cancel long
run -u ana logs long --tail 4 --follow
list -u ana status long
must_be COMPLETED digits
must_be COMPLETED gpu-or-cpu
must_be CANCELED long

title 'Every action is on record'
list -u admin audit list --denied
list -u admin audit list --limit 12
list -u admin audit verify

cat <<END

${bold}== How to go on by hand$plain

The server runs at $url until this ends. In another terminal:

  export ML_HOME=$ML_HOME
  alias ml=$ml
  ml -u ana status --watch
  ml -u ana run examples/digits --config hyperparameters.epochs=30 --follow
  ml -u admin audit list

Passwords are in $dir/passwords; the API is described at $url/docs/api.
END
if [ "${DEMO_EXIT:-}" != 1 ]; then
    if [ -t 0 ]; then
        printf '\nEnter or Ctrl-C stops the server and removes %s.\n' "$dir"
        read -r || true
    else
        printf '\nSIGTERM stops the server and removes %s.\n' "$dir"
        wait "$server" || true
    fi
fi
