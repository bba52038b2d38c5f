"""Commands of `ocr-detector` called in this process, as the program calls them."""

from __future__ import annotations

import click
from click.testing import CliRunner

from detector.cli.main import cli
from detector.exit_codes import ExitCode


def run_command(command: click.Command, *words: object) -> tuple[int, str]:
    """Exit code and output (stdout and stderr); a bug is an AssertionError with its traceback."""
    assert command.name
    result = CliRunner().invoke(cli, [command.name, *(str(word) for word in words)], prog_name="ocr-detector")
    assert result.exit_code != ExitCode.BUG, result.output
    return result.exit_code, result.output
