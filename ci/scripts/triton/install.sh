#!/usr/bin/env bash
# Installs Triton Inference Server from its wheel into a cache folder of ours, once, with a model
# repository that serves the bundled tiny model, and prints the path of a `tritonserver` launcher and
# that of the repository as the last lines. Everything else goes to standard error.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
engine=Triton
# shellcheck source=../lib.sh
. "$here/../lib.sh"
gguf=$here/../../../models/tiny-scribe-q8_0.gguf
stamp=$(cat "$here"/install.sh "$here"/model/* "$gguf" | sha256sum | cut -c1-8)
target=$cache/triton-2.51.0-$stamp

if [[ ! -x $target/bin/tritonserver ]]; then
  # The wheel has stubs for some versions of Python only; 3.12 is one of them.
  python=$(find_python 3 12)
  version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  need_space 1500
  exec 9>"$cache/install.lock"
  flock 9
  rm -rf "$cache"/installing.*
  work=$(mktemp -d "$cache/installing.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  printf 'installing Triton (55 MB, once) into %s\n' "$target" >&2
  "$python" -m venv "$work" >&2
  "$work/bin/python" -m pip install --disable-pip-version-check -q \
    nvidia-pytriton==0.7.0 xllamacpp==2026.10.11549 >&2 || die 'pip failed, see above'
  site=$work/lib/python$version/site-packages
  triton=$site/pytriton/tritonserver
  [[ -d $triton/python_backend_stubs/$version ]] || die "the wheel has no stub for Python $version"
  mkdir -p "$work/backends/python" "$work/repository/tiny/1"
  cp "$triton"/backends/python/*.* "$work/backends/python/"
  cp "$triton/python_backend_stubs/$version/triton_python_backend_stub" "$work/backends/python/"
  cp "$here/model/config.pbtxt" "$work/repository/tiny/"
  cp "$here/model/model.py" "$work/repository/tiny/1/"
  cp "$gguf" "$work/repository/tiny/1/model.gguf"
  # The stub reads neither PYTHONPATH nor site-packages; what lies beside its own module it finds.
  find "$site" -mindepth 1 -maxdepth 1 \( -name 'numpy*' -o -name 'xllamacpp*' \) -printf '%f\n' |
    while read -r package; do
      ln -s "../../lib/python$version/site-packages/$package" "$work/backends/python/$package"
    done
  "$python" -c 'import sysconfig, sys; print(sysconfig.get_config_var("LIBDIR")); print(sys.base_prefix)' \
    >"$work/python"
  cat >"$work/bin/tritonserver" <<'SH'
#!/bin/sh
# One process, so that signals reach it. The stub looks for Python's library and its modules here.
root=$(cd "$(dirname "$0")/.." && pwd)
site=$(echo "$root"/lib/python3*/site-packages)
{ read -r library; read -r home; } <"$root/python"
LD_LIBRARY_PATH=$site/nvidia_pytriton.libs:$library:${LD_LIBRARY_PATH:-}
export LD_LIBRARY_PATH PYTHONHOME="$home"
exec "$site/pytriton/tritonserver/bin/tritonserver" --backend-directory="$root/backends" "$@"
SH
  chmod +x "$work/bin/tritonserver"
  mv -T "$work" "$target"
fi
printf '%s\n%s\n' "$target/bin/tritonserver" "$target/repository"
