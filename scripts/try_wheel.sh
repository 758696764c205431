#!/usr/bin/env bash
# Build wheel and sdist into a folder, such as dist, and try the wheel from an empty folder in an environment of its own: what the
# core does on made-up votes, then, with the extras quantize and serve, all nine steps of tiny models and what uses their judge: files,
# a server, an export, Python.
set -euo pipefail
dist=$(realpath -m "${1:?a folder to build into}")
cd "$(dirname "$0")/.."
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python=${PYTHON:-python3}

"$python" -m venv "$place/build"
"$place/build/bin/pip" install -q build
"$place/build/bin/python" -m build --outdir "$dist"

"$python" -m venv "$place/env"
install() { "$place/env/bin/pip" install -q -c constraints.txt "$@"; }
install torch  # first and by itself, as in setup.sh
install "$dist"/tiebreak-*.whl

tiebreak() { (cd "$place/empty" && "$place/env/bin/tiebreak" "$@"); }
mkdir "$place/empty"
tiebreak --version
tiebreak init judge --synthetic 200
tiebreak check judge/data/votes.parquet -o card.html
tiebreak plan judge
tiebreak run judge --steps split
tiebreak slurm init cluster --votes judge/data/votes.parquet
test -f "$place/empty/cluster/profile.sh" && test -x "$place/empty/cluster/step9_eval.sh"

for wheel in "$dist"/tiebreak-*.whl; do install "$wheel[quantize,serve]"; done
tiebreak run judge
tiebreak report judge
tiebreak verify judge
tiebreak predict judge judge/data/votes.parquet -o judged.csv
tiebreak evaluate judged.csv judge/data/votes.parquet
tiebreak compare judge judge/data/votes.parquet -o compared.html

"$place/env/bin/pip" download -q --no-deps -c constraints.txt -d "$place/wheels" rich  # export copies wheels, whichever they are
tiebreak export kaggle judge -o bundle --owner ada --wheels "$place/wheels"
tiebreak evaluate bundle/dataset judge/data/votes.parquet

(cd "$place/empty" && exec "$place/env/bin/tiebreak" serve judge --port 8765) &
server=$!
trap 'kill $server; rm -rf "$place"' EXIT
curl --silent --show-error --fail --retry 60 --retry-delay 2 --retry-connrefused http://127.0.0.1:8765/v1/compare \
  --json '{"prompt": "Is it raining?", "response_a": "Yes, since noon.", "response_b": "Maybe."}'

(cd "$place/empty" && "$place/env/bin/python") <<'END'
import tiebreak

tiebreak.check("judge/data/votes.parquet")
judge = tiebreak.load("bundle/dataset")
print(judge.predict([{"prompt": "Is it raining?", "response_a": "Yes, since noon.", "response_b": "Maybe."}]))
try:  # a whole run takes minutes; this one ends before it begins
    tiebreak.train([{"prompt": "?"}], preset="tiny", folder="trained")
except tiebreak.TiebreakError as error:
    print(error)
END
