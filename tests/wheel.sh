#!/usr/bin/env bash
# The wheel as a user gets it: built, installed in fresh environments outside the checkout, not editable.
# First the base install (the producer's commands), then [local] (which has [worker] in it) and a real job of 3 images.
# Takes the packages from PyPI, at the versions of constraints.txt. Usage: tests/wheel.sh
set -euo pipefail
checkout=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-$checkout/.venv/bin/python}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unset PYTHONPATH
cd "$work"

install() { # install ENVIRONMENT REQUIREMENT
  "$python" -m venv "$1"
  "$1/bin/python" -m pip install --disable-pip-version-check --quiet --constraint "$checkout/constraints.txt" "$2"
}

# A copy: setuptools would put its build/ into the checkout, and take files from an older one there.
mkdir source
git -C "$checkout" ls-files -z --cached --others --exclude-standard | (cd "$checkout" && xargs -0 cp --parents -t "$work/source")
"$python" -m venv builder
builder/bin/python -m pip wheel --disable-pip-version-check --quiet --no-deps --wheel-dir . ./source
wheel=$(echo "$work"/ocrfleet-*.whl)
echo "wheel: $(basename "$wheel"), $(($(stat -c %s "$wheel") / 1024)) KiB"

install base "$wheel"
base/bin/ocr-producer --help >/dev/null
base/bin/ocr-producer --version
# Redis' transport is loaded only where a queue is used: nobody listens there, so this is exit 3, not a missing module.
mkdir empty
status=0
OCRFLEET_REDIS_URL=redis://127.0.0.1:1/0 base/bin/ocr-producer status 2>said || status=$?
[ "$status" = 3 ] || { cat said; echo "ocr-producer status without a server: exit $status instead of 3"; exit 1; }
base/bin/python -P -c 'import kombu.transport.redis, worker.app, producer.cli; print("base: imports from", producer.__path__[0])'

install full "${wheel}[local]"
full/bin/python -P - <<'END'
from pathlib import Path
from PIL import Image, ImageDraw

Path("in").mkdir()
for number in range(3):
    page = Image.new("RGB", (640, 480), "white")
    ImageDraw.Draw(page).text((60, 200), f"Invoice No. {number}", fill="black", font_size=48)
    page.save(f"in/{number}.jpg")
END
OCRFLEET_NICE=0 XDG_STATE_HOME=$work/state XDG_CACHE_HOME=$work/cache full/bin/ocr-producer run in -o out --quiet
full/bin/python -P - <<'END'
import json
from pathlib import Path

import detector

records = [json.loads(line) for line in Path("out/results.jsonl").read_text().splitlines()]
assert sorted(record["index"] for record in records) == [0, 1, 2], records
assert all(record["status"] == "ok" and record["boxes"] for record in records), records
assert "site-packages" in detector.__path__[0], detector.__path__
assert Path("out/report.html").stat().st_size > 10_000
print("local: 3 images, boxes in each, by", detector.__path__[0])
END
