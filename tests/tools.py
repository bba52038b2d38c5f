"""Programs from outside Python that some tests need: in CI they must be there, on a user's machine a test is skipped
with a reason that names the package (``make test`` promises to need only git, make and Python)."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import NoReturn

import pytest


def tool(name: str, remedy: str) -> str:
    """The path of a program, from the virtual environment or the system.

    Raises:
        pytest.skip.Exception: it is not installed here.
        pytest.fail.Exception: it is not installed in CI, which installs all of them.
    """
    found = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if found is not None:
        return found
    missing(f"{name} is not installed: {remedy}")


def missing(reason: str) -> NoReturn:
    """Skip the test for this reason; fail where skipping would hide a defect of CI."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)  # loud: pytest -ra lists it with its reason
