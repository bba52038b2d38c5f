"""Build the sdist and the wheel of a release, with addresses that work on the index's page.

    make release URL=https://github.com/OWNER/ocrfleet [REF=v0.1.0]

The repository's own README and pyproject.toml name no address of it: a copy may live anywhere. An index shows the
README outside of any repository, so pictures and links become addresses of that version, and [project.urls] is added,
in a copy of the commit that is checked out: nothing may be changed since, and REF, where it is there, must be that
commit. The result is in dist/, checked by `twine check --strict`.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
_LINK = re.compile(r"(\]\(|\b(?:src|href)=\")([^)\"\s#]+)")
_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:|//")
_PICTURES = (".png", ".jpg", ".svg", ".gif", ".webp")


def absolute(text: str, url: str, ref: str) -> str:
    """A README with every relative picture and link made an address of the repository at ``ref``.

    Args:
        text: Markdown; links inside the page (``#...``) stay.
        url: of the repository, as GitHub, Gitea and Forgejo lay out their pages.
        ref: tag or commit.
    """

    def replace(found: re.Match[str]) -> str:
        begin, target = found.groups()
        if _ELSEWHERE.match(target):
            return found[0]
        kind = "raw" if target.lower().endswith(_PICTURES) else "blob"
        return f"{begin}{url}/{kind}/{ref}/{target.removeprefix('./')}"

    return _LINK.sub(replace, text)


def with_urls(pyproject: str, url: str, ref: str) -> str:
    """A pyproject.toml with [project.urls]."""
    table = {
        "Homepage": url,
        "Documentation": f"{url}/blob/{ref}/README.md",
        "Changelog": f"{url}/blob/{ref}/CHANGELOG.md",
        "Issues": f"{url}/issues",
        "Source": url,
    }
    lines = "".join(f'{name} = "{address}"\n' for name, address in table.items())
    return pyproject.rstrip("\n") + f"\n\n[project.urls]\n{lines}"


def main() -> int:
    """Build."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="of the repository, https://...")
    parser.add_argument("ref", nargs="?", help="tag; default: v and the version")
    parser.add_argument("--to", type=Path, default=ROOT / "dist")
    arguments = parser.parse_args()
    url = arguments.url.rstrip("/")
    if not re.fullmatch(r"https://[\w.-]+(/[\w.~-]+)+", url):
        parser.error(f"{url}: not the https:// address of a repository")
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    ref = arguments.ref or f"v{version}"
    if changed := git("status", "--porcelain", "--untracked-files=no").stdout.decode().split("\n", 1)[0]:
        parser.error(f"not committed: {changed.strip()}")
    named = git("rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}", check=False).stdout
    if named and named != git("rev-parse", "HEAD").stdout:
        parser.error(f"{ref} is another commit than the one that is checked out")
    with tempfile.TemporaryDirectory() as temporary:
        source = Path(temporary)
        subprocess.run(["tar", "--extract"], cwd=source, input=git("archive", "HEAD").stdout, check=True)
        for name, change in (("README.md", absolute), ("pyproject.toml", with_urls)):
            (source / name).write_text(change((source / name).read_text(), url, ref))
        # -P: a build.py or twine.py where this was called is none of ours.
        tool = [sys.executable, "-P", "-m"]
        subprocess.run([*tool, "build", "--no-isolation", "--outdir", arguments.to, source], check=True)
    made = [str(path) for path in arguments.to.glob(f"ocrfleet-{version}*")]
    return subprocess.run([*tool, "twine", "check", "--strict", *made], check=False).returncode


def git(*words: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
    """Of the checkout."""
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, check=check)


if __name__ == "__main__":
    sys.exit(main())
