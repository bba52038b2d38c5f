#!/usr/bin/env bash
# The wheel as a user gets it: built, checked, installed in fresh environments outside the checkout, not editable.
#   base      the producer: every command's --help, its size on disk
#   [worker]  every command's --help; a job through a real redis-server, the producer in base and the worker in here
#   [web]     every command's --help; a picture through the page's API, the service in here and the worker in [worker]
#   [local]   a job on one machine
# Takes the packages from PyPI, at the versions of constraints.txt. Usage: tests/wheel.sh
set -euo pipefail
unset CDPATH
checkout=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-$checkout/.venv/bin/python}
work=$(mktemp -d)
pids=()
finish() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
  rm -rf "$work"
}
trap finish EXIT
unset PYTHONPATH
cd "$work"
export OCRFLEET_NICE=0 XDG_STATE_HOME=$work/state XDG_CACHE_HOME=$work/cache
# MiB in site-packages, without pip, setuptools and compiled bytecode: pip makes that, it is not downloaded.
MOST_BASE_MB=62

install() { # install ENVIRONMENT REQUIREMENT
  "$python" -m venv "$1"
  # --no-compile: most of what pip would compile is never imported here.
  "$1/bin/python" -m pip install --disable-pip-version-check --quiet --no-compile --constraint "$checkout/constraints.txt" "$2"
}

helps() { # helps ENVIRONMENT: every command of the three programs, and their versions, which are one
  local program versions
  versions=$(for program in ocr-producer ocr-worker ocr-detector; do "$1/bin/$program" --version | sed 's/.* //'; done | sort -u)
  [ "$(echo "$versions" | wc -l)" = 1 ] || { echo "$1: several versions: $versions"; exit 1; }
  for program in producer worker detector; do
    # shellcheck disable=SC2016  # the inner bash expands
    "$1/bin/python" -P -c "from $program.cli.main import COMMANDS; print(*COMMANDS, sep='\n')" | xargs -P 2 -I {} bash -c \
      '"$1" "$2" --help >"said.$2" 2>&1 || { cat "said.$2"; echo "$1 $2 --help fails"; exit 1; }' - "$1/bin/ocr-$program" {} || exit 1
  done
  echo "$1: all commands' --help, version $versions"
}

megabytes() { # megabytes ENVIRONMENT
  local site
  site=$("$1/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  (cd "$site" && du -sm --exclude=__pycache__ --exclude='pip' --exclude='pip-*' --exclude='setuptools*' \
    --exclude=pkg_resources --exclude=_distutils_hack . | cut -f1)
}

# A copy: setuptools would put its build/ into the checkout, and take files from an older one there.
mkdir source
git -C "$checkout" ls-files -z --cached --others --exclude-standard | (cd "$checkout" && xargs -0 cp --parents -t "$work/source")
"$python" -m venv builder
builder/bin/python -m pip install --disable-pip-version-check --quiet --require-hashes \
  --requirement "$checkout/requirements/build.txt" --requirement "$checkout/requirements/release.txt"
builder/bin/python -m build --no-isolation --outdir dist source >build.log 2>&1 || { tail -20 build.log; exit 1; }
builder/bin/python -m twine check --strict dist/*
wheel=$(echo "$work"/dist/ocrfleet-*.whl)
echo "wheel: $(basename "$wheel"), $(($(stat -c %s "$wheel") / 1024)) KiB"

install base "$wheel"
helps base
size=$(megabytes base)
echo "base: $size MB on disk"
[ "$size" -le "$MOST_BASE_MB" ] || { echo "the base install is larger than $MOST_BASE_MB MB"; exit 1; }
# Redis' transport is loaded only where a queue is used: nobody listens there, so this is exit 3, not a missing module.
status=0
OCRFLEET_REDIS_URL=redis://127.0.0.1:1/0 base/bin/ocr-producer status 2>said || status=$?
[ "$status" = 3 ] || { cat said; echo "ocr-producer status without a server: exit $status instead of 3"; exit 1; }

install worker "${wheel}[worker]"
helps worker
worker/bin/python -P - <<'PYTHON'
from pathlib import Path
from PIL import Image, ImageDraw

Path("in").mkdir()
pages = []
for number in range(4):
    page = Image.new("RGB", (640, 480), "white")
    ImageDraw.Draw(page).text((60, 200), f"Invoice No. {number}", fill="black", font_size=48)
    pages.append(page)
pages[0].save("in/0.jpg")
pages[1].save("in/sheets.tif", save_all=True, append_images=pages[2:])
PYTHON

looks_right() { # looks_right ENVIRONMENT OUT
  "$1/bin/python" -P - "$2" <<'PYTHON'
import json
import sys
from pathlib import Path

import detector

out = Path(sys.argv[1])
records = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
assert sorted(record["index"] for record in records) == [0, 1, 2, 3], records
assert all(record["status"] == "ok" and record["boxes"] for record in records), records
assert "site-packages" in detector.__path__[0], detector.__path__
assert json.loads((out / "job.json").read_text())["ok"] == 4
assert (out / "report.html").stat().st_size > 5_000
print(f"{out}: 4 pages, boxes in each")
PYTHON
}

server=$(command -v redis-server || command -v valkey-server) || { echo "apt-get install redis-server"; exit 1; }
"$server" --port 0 --unixsocket "$work/redis.sock" --save '' --dir "$work" >redis.log 2>&1 &
pids+=($!)
export OCRFLEET_REDIS_URL=unix://$work/redis.sock
for _ in $(seq 100); do [ -S redis.sock ] && break; sleep 0.1; done
mkdir nothing
OCRFLEET_ROOTS=$work/nothing worker/bin/ocr-worker start >worker.log 2>&1 &
pids+=($!)
base/bin/ocr-producer enqueue in --job pair --transfer redis --watch --quiet || { tail -5 worker.log; exit 1; }
base/bin/ocr-producer collect pair -o pair --quiet
looks_right worker pair

install web "${wheel}[web]"
helps web
port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
OCRFLEET_WEB_TRANSFER=redis web/bin/ocr-producer serve --port "$port" --folder "$work/pages" 2>web.log &
pids+=($!)
for _ in $(seq 600); do grep -q '^ready at ' web.log && break; sleep 0.1; done
base/bin/python -P - "$(sed -n 's/^ready at //p' web.log)" <<'PYTHON' || { tail -n 5 web.log worker.log; exit 1; }
import sys

from producer import Client

client = Client(sys.argv[1])
record = client.detect("in/0.jpg")
assert record.status == "ok" and record.boxes, record
job = client.submit(["in/sheets.tif"])
assert [len(record.boxes) > 0 for record in job.results()] == [True] * 3
print("web: a picture and a job of 3 pages through the API, boxes in each")
PYTHON
unset OCRFLEET_REDIS_URL

install local "${wheel}[local]"
local/bin/ocr-producer run in -o alone --quiet
looks_right local alone
