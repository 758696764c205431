#!/usr/bin/env bash
# Make .venv ready. torch comes first and by itself, so that no other package chooses it. A CUDA or ROCm build
# that the base Python already has is used where it stands: .venv sees its folder, and pip may not replace it.
# CONSTRAINTS names another file of versions than constraints.txt, for the oldest and the newest packages in CI.
# HASHES=1 has pip refuse every file, but of torch, whose hash is not in constraints-hashes.txt.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "tiebreak needs Python 3.11 or later, but $python is: $("$python" -V 2>&1)." \
    "Name another one: make PYTHON=/path/to/python3.11" >&2
  exit 2
}
"$python" -m venv .venv

base_torch=$("$python" 2>/dev/null <<'END' || true
import pathlib, torch
major, minor = map(int, torch.__version__.split(".")[:2])
if (torch.version.cuda or torch.version.hip) and (major, minor) >= (2, 11):
    print(torch.__version__, pathlib.Path(torch.__file__).parents[1])
END
)
constraints=${CONSTRAINTS:-constraints.txt}
if [ -n "$base_torch" ]; then
  read -r version folder <<<"$base_torch"
  sed "s/^torch==.*/torch==$version/" "$constraints" >.venv/constraints.txt
  constraints=.venv/constraints.txt
  echo "$folder" >"$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/base_torch.pth"
  echo "Setting up .venv beside torch $version of $folder" >&2
else
  echo "Setting up .venv, torch included (a minute or two)" >&2
fi

install() { .venv/bin/python -m pip install -qq --no-input --disable-pip-version-check -c "$constraints" "$@"; }
install torch
if [ -n "${HASHES:-}" ]; then
  # pip checks the hash of every file but torch's; what torch brought is left as it is
  checked() { .venv/bin/python -m pip install -qq --no-input --disable-pip-version-check --no-deps "$@"; }
  checked --require-hashes -r constraints-hashes.txt
  checked --no-build-isolation -e .
else
  install -e '.[quantize,qlora,dev]'
fi
