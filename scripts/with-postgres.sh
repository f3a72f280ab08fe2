#!/usr/bin/env bash
# Runs a command with a private PostgreSQL cluster of its own, and removes the cluster afterwards, also after a failure or a signal.
#   scripts/with-postgres.sh cargo test --workspace
# The command finds it in ML_TEST_POSTGRES. Where that is set already, the server it names is used and none is started.
set -euo pipefail
[ $# -gt 0 ] || { echo "usage: scripts/with-postgres.sh COMMAND [ARGUMENTS]" >&2; exit 2; }
[ -z "${ML_TEST_POSTGRES:-}" ] || exec "$@"
here=$PWD
cd "$(dirname "$0")/.."
source scripts/lib.sh

programs=$(postgres_programs)
[ -n "$programs" ] || fail "PostgreSQL is not there: apt-get install postgresql (or scripts/setup.sh test)"

# Not below TMPDIR: that may be closed to the other user, and a socket's path must be short.
dir=$(mktemp -d /tmp/bailiwick-postgres.XXXXXX)
as_server=()
if [ "$(id -u)" = 0 ]; then
    # PostgreSQL refuses to run as root.
    user=postgres
    id -u postgres >/dev/null 2>&1 || user=nobody
    as_server=(setpriv "--reuid=$user" "--regid=$(id -g "$user")" --clear-groups)
    chown "$user" "$dir"
fi

child=
# shellcheck disable=SC2317 # called by trap
stop() {
    trap - EXIT INT TERM HUP
    # Its own session, so its own process group: nothing that it started stays behind.
    [ -z "$child" ] || kill -TERM -- "-$child" 2>/dev/null || true
    (cd "$dir" && "${as_server[@]}" "$programs/pg_ctl" -D "$dir/data" -m immediate -w -s stop) >/dev/null 2>&1 || true
    rm -rf "$dir"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

password=$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n')
printf '%s\n' "$password" >"$dir/password"
chmod 600 "$dir/password"
[ ${#as_server[@]} -eq 0 ] || chown "$user" "$dir/password"
cd "$dir"
"${as_server[@]}" "$programs/initdb" -D "$dir/data" -U postgres -A scram-sha-256 --pwfile="$dir/password" \
    --no-sync --no-instructions -E UTF8 --locale=C >"$dir/initdb.log" 2>&1 || { cat "$dir/initdb.log" >&2; exit 1; }

# Somebody may take the port between our look and the start: then another one.
for attempt in 1 2 3 4 5; do
    port=$(free_port)
    # Nothing here has to survive a crash of the machine.
    if "${as_server[@]}" "$programs/pg_ctl" -D "$dir/data" -l "$dir/log" -w -t 60 -s start -o "\
        -c listen_addresses=127.0.0.1 -c port=$port -c unix_socket_directories=$dir -c max_connections=300 \
        -c fsync=off -c synchronous_commit=off -c full_page_writes=off -c shared_buffers=64MB"; then
        break
    fi
    [ "$attempt" -lt 5 ] || { cat "$dir/log" >&2; fail "PostgreSQL does not start"; }
done

export ML_TEST_POSTGRES="postgres://postgres:$password@127.0.0.1:$port/postgres"
cd "$here"
# In the background, because bash runs traps only between commands; wait ends at once when a signal comes.
setsid "$@" &
child=$!
outcome=0
wait "$child" || outcome=$?
child=
exit "$outcome"
