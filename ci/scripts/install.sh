#!/usr/bin/env bash
# Installs what a bare Debian with Rust lacks for `cargo xtask ci`: curl, Python's venv, cargo-nextest,
# cargo-deny and the locked crates. Does nothing, fast, where all of it is there.
set -euo pipefail

nextest_version=0.9.143
deny_version=0.20.2

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cache=${LLAMA_ORCH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/llama-orch}
tools=$cache/tools

say() { printf 'install: %s\n' "$1" >&2; }

die() {
  say "$1"
  exit 1
}

as_root() {
  if ((EUID == 0)); then
    "$@"
  elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    sudo "$@"
  else
    return 1
  fi
}

has_venv() {
  local name
  for name in python3 python3.13 python3.12 python3.11 python3.10; do
    if "$name" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
      return
    fi
  done
  return 1
}

packages=()
command -v curl >/dev/null || packages+=(curl ca-certificates)
command -v git >/dev/null || packages+=(git)
command -v cc >/dev/null || packages+=(build-essential)
has_venv || packages+=(python3 python3-venv)
if ((${#packages[@]})); then
  command -v apt-get >/dev/null || die "install ${packages[*]} with this system's package manager, then try again"
  say "apt: ${packages[*]}"
  {
    as_root apt-get update -q &&
      as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${packages[@]}"
  } >&2 || die "run \`sudo apt-get install ${packages[*]}\`, then try again"
fi

if ! cargo nextest --version >/dev/null 2>&1; then
  say "cargo-nextest $nextest_version (a few minutes, once)"
  cargo install cargo-nextest --locked --version "$nextest_version" >&2
fi

# Its own folder, so that another version in the user's PATH stays as it is. Unoptimized: it runs
# for a second, and building it well takes minutes.
if [[ $("$tools/bin/cargo-deny" --version 2>/dev/null) != "cargo-deny $deny_version" ]]; then
  say "cargo-deny $deny_version (about a minute, once)"
  cargo install cargo-deny --locked --version "$deny_version" --no-default-features --root "$tools" --force \
    --config profile.release.opt-level=0 --config profile.release.lto=false \
    --config profile.release.codegen-units=16 >&2
fi

# cargo-deny works offline and reads the manifests of every locked crate, other systems' included.
cargo fetch --quiet --locked --manifest-path "$root/Cargo.toml" >&2
