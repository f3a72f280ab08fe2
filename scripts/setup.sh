#!/usr/bin/env bash
# Installs what is missing and nothing else.   usage: scripts/setup.sh demo|test
# demo: a C compiler and a Python environment with scikit-learn.   test: also PostgreSQL, cargo-deny, schemathesis, aiosmtpd, ClearML's programs, and Chromium with what drives it.
set -euo pipefail
umask 022
cd "$(dirname "$0")/.."
source scripts/lib.sh

what=${1:?usage: scripts/setup.sh demo|test}

packages=()
command -v cc >/dev/null || packages+=(gcc libc6-dev)
/usr/bin/python3 -c 'import ensurepip, venv' 2>/dev/null || packages+=(python3 python3-venv)
if [ "$what" = test ] && [ -z "${ML_TEST_POSTGRES:-}" ] && [ -z "$(postgres_programs)" ]; then
    packages+=(postgresql)
fi
if [ "$what" = test ]; then
    [ -x /usr/bin/chromium ] || packages+=(chromium)
    command -v node >/dev/null || packages+=(nodejs)
    command -v npm >/dev/null || packages+=(npm)
fi
if [ ${#packages[@]} -gt 0 ]; then
    say "installing ${packages[*]}"
    as_root=()
    if [ "$(id -u)" != 0 ]; then
        sudo -n true 2>/dev/null || fail "please install as root: apt-get install -y --no-install-recommends ${packages[*]}"
        as_root=(sudo -n)
    fi
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
fi
command -v cargo >/dev/null || fail "cargo is not there: install Rust 1.95 or newer, see https://rustup.rs"

# python_environment DIR MARK PACKAGES…: a private environment of the distribution's own Python: any other (below root's home, say) could be out of
# reach of the users as whom jobs run. MARK changes with the packages, so that an environment of an older checkout is made again.
python_environment() {
    local dir=$1 mark=$2
    shift 2
    [ -e "$dir/.ready-$mark" ] && return
    say "making a Python environment with $*: $dir"
    rm -rf "$dir"
    mkdir -p "$dir"
    /usr/bin/python3 -m venv "$dir"
    "$dir/bin/pip" install --quiet --disable-pip-version-check "$@"
    touch "$dir/.ready-$mark"
}

python_environment "$job_python" 1 'scikit-learn>=1.3,<2'

if [ "$what" = test ]; then
    python_environment "$fuzz_python" 4.32.5-1.4.6 schemathesis==4.32.5 aiosmtpd==1.4.6
    python_environment "$clearml_python" 2.1.12-3.0.3 clearml==2.1.12 clearml-agent==3.0.3
    if ! cmp -s browser/package.json "$browser_packages/package.json" || [ ! -e "$browser_packages/.ready" ]; then
        say "fetching what drives the browser: $browser_packages"
        rm -rf "$browser_packages"
        mkdir -p "$browser_packages"
        cp browser/package.json "$browser_packages/"
        npm install --prefix "$browser_packages" --no-package-lock --no-audit --no-fund --ignore-scripts --loglevel=error >/dev/null
        touch "$browser_packages/.ready"
    fi
    if ! command -v cargo-deny >/dev/null; then
        say "installing cargo-deny (some minutes, once)"
        cargo install --quiet --locked cargo-deny --version 0.20.2
    fi
fi
