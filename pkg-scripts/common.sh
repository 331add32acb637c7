# Words and paths that every script here shares. Sourced, never run.
# shellcheck shell=bash
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CACHE=${STATEPRESS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/statepress}
WASM_TARGET=wasm32-unknown-unknown
JOBS=${JOBS:-$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)}

# The tools built from crates.io live beside our other caches, so that a version
# the user has installed for something else is neither used nor overwritten.
TOOLS=$CACHE/tools
export PATH="$TOOLS/bin:$PATH"

# What trains is built and checked apart (test distill): burn takes longer than all the rest together.
WITHOUT_BURN=(--exclude statepress-distill --exclude statepress-distill-tests)

# The Python of the tests, with what they import.
PYTHON=$CACHE/python/bin/python

# The Python with what loads our exports.
INTEROP=$CACHE/interop/bin/python

say() { printf '[statepress] %s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# as_root CMD... - run a package manager's command: directly as root, else through sudo.
as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif have sudo; then sudo "$@"
  else die "this needs root: $*"
  fi
}

apt_install() {
  have apt-get || return 1
  local missing=()
  for package in "$@"; do
    dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package")
  done
  [ ${#missing[@]} = 0 ] && return 0
  say "installing Debian packages: ${missing[*]}"
  as_root apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
}

# The version of a crate that Cargo.lock pins.
locked_version() {
  awk -v crate="$1" '$1 == "name" && $3 == "\"" crate "\"" { getline; gsub(/"/, "", $3); print $3; exit }' "$ROOT/Cargo.lock"
}

# Builds for wasm32 use the toolchain that setup has made, where rustup's own cannot.
use_wasm_toolchain() {
  if [ -e "$CACHE/wasm-toolchain" ]; then
    RUSTUP_TOOLCHAIN=$(cat "$CACHE/wasm-toolchain")
    export RUSTUP_TOOLCHAIN
  fi
}
