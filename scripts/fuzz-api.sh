#!/usr/bin/env bash
# Fuzzes a real server from its own OpenAPI description; whatever it answers, it must not be a 5xx.
#   scripts/fuzz-api.sh                                      on SQLite
#   scripts/with-postgres.sh scripts/fuzz-api.sh --postgres  on PostgreSQL
# FUZZ_SECONDS (60) bounds it; FUZZ_SEED repeats a run.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/lib.sh

database=()
case ${1:-} in
    --postgres) database=(--database "${ML_TEST_POSTGRES:?is set by scripts/with-postgres.sh}") ;;
    '') ;;
    *) fail "usage: scripts/fuzz-api.sh [--postgres]" ;;
esac

ml=$(ml_program)
seconds=${FUZZ_SECONDS:-60}
seed=${FUZZ_SEED:-$RANDOM}
dir=$(mktemp -d /tmp/bailiwick-fuzz.XXXXXX)
export ML_HOME=$dir/home
unset ML_API_KEY ML_SERVER
server=
# shellcheck disable=SC2317 # called by trap
stop() {
    trap - EXIT INT TERM HUP
    if [ -n "$server" ]; then
        kill -TERM "$server" 2>/dev/null || true
        wait "$server" || true
    fi
    rm -rf "$dir"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

head -c 15 /dev/urandom | base64 >"$dir/password"
url=http://127.0.0.1:$(free_port)
"$ml" serve --data "$dir/data" --listen "${url#http://}" --admin-password-file "$dir/password" --no-agent "${database[@]}" \
    >"$dir/server.log" 2>&1 </dev/null &
server=$!
for _ in $(seq 100); do
    "$ml" login admin --server "$url" --password-file "$dir/password" >/dev/null 2>&1 && break
    sleep 0.1
done
"$ml" whoami >/dev/null || { cat "$dir/server.log" >&2; fail 'the server does not start'; }

# Something to find: an experiment with code and one that was cancelled, a user, an account that may serve the queue.
"$ml" run examples/long >/dev/null
"$ml" run examples/gpu-or-cpu >/dev/null
"$ml" cancel gpu-or-cpu >/dev/null
"$ml" user create ana >/dev/null 2>&1
"$ml" service-account create machine-1 --serve default >/dev/null
key=$("$ml" token create --label fuzz)

# An open stream never answers within the time, so it is left to the tests of the server. Signing out and revoking come last: they may end the key.
ending=(--include-path /api/v1/logout --include-path '/api/v1/tokens/{token}')
fuzz() {
    "$fuzz_python/bin/schemathesis" run "$url/openapi.json" --url "$url" --header "Authorization: Bearer $key" \
        --checks not_a_server_error,response_schema_conformance,content_type_conformance,status_code_conformance \
        --request-timeout 20 --continue-on-failure --seed "$seed" --warnings off "$@"
}
outcome=0
/usr/bin/python3 scripts/hard-inputs.py "$url" "$key" || outcome=$?
fuzz --max-time "$seconds" --exclude-path '/api/v1/experiments/{experiment}/logs/stream' "${ending[@]/include/exclude}" || outcome=$?
ML_API_KEY=$key "$ml" --server "$url" whoami >/dev/null || fail 'the fuzzer lost its key on the way, so most of its requests were not signed'
fuzz --max-time 15 "${ending[@]}" || outcome=$?

if ! kill -0 "$server" 2>/dev/null; then
    tail -50 "$dir/server.log" >&2
    fail 'the server ended'
fi
if grep -qi 'panicked' "$dir/server.log"; then
    grep -i -A3 'panicked' "$dir/server.log" >&2
    fail 'something in the server panicked'
fi
[ "$outcome" = 0 ] || fail "see above; again with the same requests: FUZZ_SEED=$seed scripts/fuzz-api.sh"
