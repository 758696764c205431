#!/usr/bin/env bash
# Export a judge for Kaggle and run the notebook's cells to submission.csv as there: no network, an image with torch and pip alone.
# RUN is a recipe that ran, FOLDER where the bundle goes. Needs root, for a namespace with its own /kaggle and without a network.
set -euo pipefail
run=${1:?a recipe that ran} bundle=$(realpath -m "${2:?a new folder for the bundle}")
cd "$(dirname "$0")/.."
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python=${PYTHON:-python3}
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')

"$python" -m venv "$place/image"
"$place/image/bin/pip" install -q -c constraints.txt torch
"$place/image/bin/pip" freeze | sed 's/+.*//' >"$place/image.txt"
.venv/bin/tiebreak export kaggle "$run" -o "$bundle" --owner ada --python "$version" --image "$place/image.txt"
"$place/image/bin/python" - "$bundle/kernel/predict.ipynb" >"$place/cells.py" <<'END'
import json, sys
cells = json.load(open(sys.argv[1]))["cells"]
print(*(cell["source"] for cell in cells if cell["cell_type"] == "code"), sep="\n\n")
END
"$place/image/bin/python" - >"$place/test.csv" <<'END'
import csv, json, sys
rows = csv.writer(sys.stdout)
rows.writerow(["id", "prompt", "response_a", "response_b"])
for number in range(3):
    rows.writerow([number, *(json.dumps([text]) for text in (f"What is {number} + 1?", f"It is {number + 1}.", "Who knows?"))])
END
mkdir -p /kaggle
unshare --mount --net bash -euo pipefail -s "$place" "$bundle" <<'END'
mount -t tmpfs none /kaggle
mkdir -p /kaggle/input/lmsys-chatbot-arena /kaggle/working
cp -r "$2/dataset" /kaggle/input/tiebreak-judge
cp "$1/test.csv" /kaggle/input/lmsys-chatbot-arena
chmod -R a-w /kaggle/input
cd /kaggle/working
env -i PATH=/usr/bin:/bin HOME="$1" "$1/image/bin/python" "$1/cells.py"
END
