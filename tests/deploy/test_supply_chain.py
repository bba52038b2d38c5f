"""What a release ships is named: packages in a CycloneDX bill of materials, images of others by digest."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.tools import tool

ROOT = Path(__file__).parents[2]


def locked(lock: str) -> set[tuple[str, str]]:
    """Names and versions in a lock file."""
    return set(re.findall(r"^([a-z0-9.-]+)==(\S+)", (ROOT / "requirements" / f"{lock}.txt").read_text(), re.MULTILINE))


def test_what_is_installed_is_checked_by_hash() -> None:
    """By README's `make run`, by the image and by install.sh; and secrets stay out of the repository."""
    for name in ("Makefile", "Dockerfile", "deploy/install.sh"):
        text = (ROOT / name).read_text()
        assert "--require-hashes" in text and "requirements/build.txt" in text, name
    for lock in ("build", "local", "fleet", "release"):
        blocks = re.split(r"\n(?=[a-z0-9])", (ROOT / "requirements" / f"{lock}.txt").read_text())
        assert all("--hash=sha256:" in block for block in blocks if "==" in block.splitlines()[0])
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()


def test_of_the_checkout_only_our_packages_are_importable(tmp_path: Path) -> None:
    """With a path line for install, `sitecustomize.py` of a stranger's archive that was unpacked there ran."""
    assert "package-dir" not in (ROOT / "pyproject.toml").read_text(), "with it the install is such a line"
    # Of packages without __init__.py setuptools puts this name into sys.path, relative to where the user stands.
    trap = tmp_path / "__editable__.ocrfleet-0.1.0.finder.__path_hook__"
    trap.mkdir()
    (trap / "sitecustomize.py").write_text("print('taken')")
    code = "import sys, importlib.util as util; print(*sys.path, util.find_spec('deploy'), sep='\\n')"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    *paths, found = done.stdout.splitlines()
    assert all(Path(path).is_absolute() for path in paths), paths
    assert found == "None" and ROOT not in {Path(path).resolve() for path in paths if path}


def installs(venv: Path, *words: str) -> list[str]:
    """What pip is told to install, by a `make` of these words where nothing is installed yet."""
    done = subprocess.run(["make", "--dry-run", f"VENV={venv}", *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [line for line in done.stdout.splitlines() if "-m pip " in line]


def test_what_runs_and_what_releases_is_installed_by_hash(tmp_path: Path) -> None:
    """Before: `make web`, `make release`, and `make run` after `make test`, which took what tests had brought."""
    ours = "--no-deps --no-build-isolation --editable ."
    for words in (["run"], ["web"], ["release", "URL=https://git.example.org/we/ocrfleet"]):
        found = installs(tmp_path, *words)
        assert found and all("--require-hashes" in line or line.endswith(ours) for line in found), words
    assert installs(tmp_path, "test")[:2] == installs(tmp_path, "run"), "pip compares no hash of what is there"
    assert installs(tmp_path, "web") == installs(tmp_path, "run")
    assert "--no-isolation" in (ROOT / "deploy" / "release.py").read_text()
    by_path = "--no-build-isolation --editable '.[all]'"
    assert installs(tmp_path, "test")[-1].endswith(by_path), "ocrfleet is on no index: who registers it has it"
    # And tests replace none of them: their versions are the same.
    versions = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    known = {re.sub("[-_.]+", "-", name).lower(): version for name, version in versions.items()}
    assert all(known.get(name.replace(".", "-"), version) == version for name, version in locked("local"))


def test_make_runs_nothing_of_the_checkouts_root(tmp_path: Path) -> None:
    """Before: a pip.py there, and a setup.py, of an archive that somebody had unpacked in it."""
    for words in (["run"], ["test"], ["release", "URL=https://git.example.org/we/ocrfleet"]):
        done = subprocess.run(
            ["make", "--dry-run", f"VENV={tmp_path}", *words], cwd=ROOT, capture_output=True, text=True
        )
        ran = re.findall(r"python3? .*-m (?:pip|venv) ", done.stdout)
        assert len(ran) > 1 and all("python -P" in line or "python3 -P" in line for line in ran), ran
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("pyproject.toml", "constraints.txt", "requirements/build.txt", "requirements/local.txt", "setup.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to("/bin/true")
    for rule in (".run-ready", ".test-ready"):
        words = ["make", "VENV=.", f"./{rule}"]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 2 and "setup.py is none of ocrfleet's" in done.stdout, done
        assert not (tmp_path / rule).exists()


def test_lock_files_are_made_by_no_settings_of_the_checkouts_root(tmp_path: Path) -> None:
    """Before: a uv.toml there named the index whose hashes went into all lock files, which do not say so."""
    words = ["make", "--dry-run", f"VENV={tmp_path}", "lock"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "uv pip compile --no-config " in done.stdout and done.stdout.count("bin/uv ") == 1


def test_the_bill_of_materials_is_valid_and_names_every_locked_package(tmp_path: Path) -> None:
    programs = Path(tool("cyclonedx-py", "make sbom")).parent
    # The recipe as it stands, which validates what it writes; only the tool is not installed again.
    words = [
        "make",
        "--silent",
        "--old-file=.venv/.test-ready",
        "VENV=.venv",
        f"BIN={programs}",
        "PIP=true",
        "LOCKS=fleet",
    ]
    done = subprocess.run([*words, f"SBOM={tmp_path}", "sbom"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    bill = json.loads((tmp_path / "ocrfleet-fleet.cdx.json").read_text())
    assert bill["bomFormat"] == "CycloneDX" and bill["metadata"]["component"]["name"] == "ocrfleet"
    listed = {(part["name"], part["version"]): part for part in bill["components"]}
    assert listed.keys() == locked("fleet") and len(listed) > 40
    for (name, version), part in listed.items():
        assert part["purl"] == f"pkg:pypi/{name}@{version}"
        assert part["externalReferences"][0]["hashes"], name


DOCKER = """#!/bin/sh
for image; do :; done
test "$image" != "$DOCKER_LOST" || { echo "no route to $image" >&2; exit 1; }
printf 'sha256:%s\\n' "$(printf %s "$image" | sha256sum | cut -c1-64)"
"""


def copied(folder: Path) -> Path:
    for name in ("Dockerfile", "docker-compose.yml"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "deploy", folder / "deploy")
    docker = folder / "bin" / "docker"
    docker.parent.mkdir()
    docker.write_text(DOCKER)
    docker.chmod(0o755)
    return folder


def pin(folder: Path, *words: str, lost: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "DOCKER_LOST": lost}
    script = folder / "deploy" / "pin_images.sh"
    return subprocess.run([script, *words], env=environment, capture_output=True, text=True)


def text_of(folder: Path) -> str:
    files = [folder / "Dockerfile", folder / "docker-compose.yml", *sorted(folder.glob("deploy/kubernetes/*.yaml"))]
    return "".join(file.read_text() for file in files)


def test_images_are_pinned_by_what_the_registry_says(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    open_before = pin(folder, "--check")
    assert open_before.returncode == 1 and "valkey/valkey:8" in open_before.stdout
    before = text_of(folder)
    unreachable = pin(folder, lost="redis:7.4-alpine")
    assert unreachable.returncode == 1 and "nothing was changed" in unreachable.stderr
    assert text_of(folder) == before, "all or nothing"
    assert pin(folder).returncode == 0
    once = text_of(folder)
    pinned = re.findall(r"([a-z/]+[a-z]+:[\w.-]+)@sha256:([0-9a-f]{64})", once)
    assert {"python", "dockerfile", "valkey", "prometheus", "redis"} <= {
        name.partition(":")[0].split("/")[-1] for name, _ in pinned
    }
    assert all(hashlib.sha256(name.encode()).hexdigest() == digest for name, digest in pinned)
    assert re.sub("@sha256:[0-9a-f]{64}", "", once) == re.sub("@sha256:[0-9a-f]{64}", "", before), (
        "nothing else changes"
    )
    assert pin(folder).returncode == 0 and text_of(folder) == once, "twice is once"
    assert pin(folder, "--check").returncode == 0
