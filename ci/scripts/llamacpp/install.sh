#!/usr/bin/env bash
# Installs llama.cpp's server from its pinned wheel into a cache folder of ours, once, and prints the
# path of a `llama-server` launcher as the last line. Everything else goes to standard error.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
engine=llama.cpp
# shellcheck source=../lib.sh
. "$here/../lib.sh"
# The folder's name says what is in it, so that a changed pin or launcher is a new installation.
stamp=$(cat "$here/requirements.txt" "$here/launcher.py" "$here/install.sh" | sha256sum | cut -c1-8)
version=$(sed -n 's/^xllamacpp==\([0-9.]*\).*/\1/p' "$here/requirements.txt")
target=$cache/llamacpp-$version-$stamp
launcher=$target/bin/llama-server

if [[ -x $launcher ]]; then
  printf '%s\n' "$launcher"
  exit 0
fi

python=$(find_python 3 10)
"$python" -c 'import venv, ensurepip' 2>/dev/null ||
  die "the venv module of $("$python" --version) is missing; install it (Debian: apt install python3-venv)"
need_space 300

# Two installations at once: the second waits, then finds the first one's result.
exec 9>"$cache/install.lock"
flock 9
if [[ ! -x $launcher ]]; then
  # What a killed installation left; under the lock nobody else's work.
  rm -rf "$cache"/installing.*
  work=$(mktemp -d "$cache/installing.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  printf 'installing llama.cpp (34 MB, once) into %s\n' "$target" >&2
  "$python" -m venv "$work" >&2
  "$work/bin/python" -m pip install --disable-pip-version-check --no-deps --require-hashes \
    --only-binary :all: -r "$here/requirements.txt" >&2 ||
    die 'pip failed, see above; is the package index reachable?'
  cp "$here/launcher.py" "$work/launcher.py"
  # The launcher becomes python: one process, so that signals reach it.
  cat >"$work/bin/llama-server" <<'SH'
#!/bin/sh
root=$(cd "$(dirname "$0")/.." && pwd)
exec "$root/bin/python" "$root/launcher.py" "$@"
SH
  chmod +x "$work/bin/llama-server"
  mv -T "$work" "$target"
fi
printf '%s\n' "$launcher"
