"""What an index shows: no picture and no link of the README may need the repository around it."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

from deploy.release import absolute, with_urls

ROOT = Path(__file__).parents[2]
URL = "https://git.example.org/we/ocrfleet"


def test_the_readme_works_outside_the_repository() -> None:
    before = (ROOT / "README.md").read_text()
    after = absolute(before, URL, "v1.2.3")
    inside = r"\]\((?!#|https?:|mailto:)|src=\"(?!https:)"
    assert re.search(inside, before) and not re.search(inside, after)
    assert f"![The page]({URL}/raw/v1.2.3/docs/web-1280.png)" in after
    assert f"({URL}/blob/v1.2.3/docs/web.md)" in after and "](#three-ways-in)" in after
    for kind, path in re.findall(rf"{URL}/(raw|blob)/v1\.2\.3/([^)#\"\s]+)", after):
        assert (ROOT / path).is_file(), path
        assert (kind == "raw") == path.endswith((".png", ".jpg", ".svg")), path
    assert absolute(after, URL, "v1.2.3") == after


def test_the_index_gets_addresses() -> None:
    before = (ROOT / "pyproject.toml").read_text()
    found = tomllib.loads(with_urls(before, URL, "v1.2.3"))["project"]
    assert found["urls"]["Changelog"] == f"{URL}/blob/v1.2.3/CHANGELOG.md"
    assert {**found, "urls": None} == {**tomllib.loads(before)["project"], "urls": None}


def test_an_address_is_needed() -> None:
    told = subprocess.run([sys.executable, ROOT / "deploy/release.py", "here"], capture_output=True, text=True)
    assert told.returncode == 2 and "https://" in told.stderr
