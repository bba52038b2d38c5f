"""What an index shows: no picture and no link of the README may need the repository around it."""

from __future__ import annotations

import os
import re
import shutil
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


def test_what_is_released_is_the_commit(tmp_path: Path) -> None:
    """Before: the working tree, committed or not, as any REF; and a build.py and a twine.py in it were run."""
    checkout, tools = tmp_path / "checkout", tmp_path / "tools"
    (checkout / "deploy").mkdir(parents=True)
    tools.mkdir()
    shutil.copy(ROOT / "deploy/release.py", checkout / "deploy")
    (checkout / "README.md").write_text("here")
    (checkout / "pyproject.toml").write_text('[project]\nversion = "1.2.3"\n')
    (tools / "build.py").write_text(
        "import pathlib, sys; print((pathlib.Path(sys.argv[-1]) / 'README.md').read_text())"
    )
    (tools / "twine.py").touch()
    mine = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")

    def git(*words: str) -> None:
        subprocess.run(["git", *mine, *words], cwd=checkout, check=True, capture_output=True)

    def release() -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-P", "deploy/release.py", URL, "v1"]
        environment = {**os.environ, "PYTHONPATH": str(tools)}
        return subprocess.run(words, cwd=checkout, capture_output=True, text=True, env=environment)

    for words in (("init",), ("add", "-A"), ("commit", "-m", "1"), ("tag", "v1")):
        git(*words)
    for name in ("build.py", "twine.py"):
        (checkout / name).write_text("raise SystemExit('a stranger')")
    done = release()
    assert done.returncode == 0 and done.stdout == "here\n", done.stderr
    (checkout / "README.md").write_text("there")
    assert "not committed: M README.md" in (done := release()).stderr and done.returncode == 2
    git("commit", "-a", "-m", "2")
    assert "v1 is another commit" in (done := release()).stderr and done.returncode == 2
