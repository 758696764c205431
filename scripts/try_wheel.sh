#!/usr/bin/env bash
# Build wheel and sdist into a folder, then try the wheel from an empty folder, in an environment of its own without extras:
# made-up votes, all steps of tiny models but quantisation, which is an extra, predictions. scripts/try_wheel.sh dist
set -euo pipefail
dist=$(realpath -m "${1:?a folder to build into}")
cd "$(dirname "$0")/.."
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python=${PYTHON:-python3}

"$python" -m venv "$place/build"
"$place/build/bin/pip" install -q build
"$place/build/bin/python" -m build --outdir "$dist"

"$python" -m venv "$place/core"
"$place/core/bin/pip" install -q -c constraints.txt torch
"$place/core/bin/pip" install -q -c constraints.txt "$dist"/tiebreak-*.whl
mkdir "$place/empty"
cd "$place/empty"
tiebreak() { "$place/core/bin/tiebreak" "$@"; }
tiebreak --version
