"""``ocr-detector``: the program, and its command `detect`. The other commands are in the modules beside this one."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from detector.cli.options import (
    FAILED,
    INTERRUPTED,
    OK,
    USAGE,
    say,
)
from detector.errors import ModelError, show

if TYPE_CHECKING:
    pass


_EXIT_CODES = (
    "Exit codes: 0 all good; 1 some images failed; 2 usage; 4 nothing to do or input missing; 130 interrupted."
)


class LazyGroup(click.Group):
    """Finds the commands of the other modules of `detector.cli` only when they are asked for or listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of our own commands and those of the other modules."""
        return sorted({*super().list_commands(ctx), *_other_commands()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Our own command, or one of another module."""
        return super().get_command(ctx, cmd_name) or _other_commands().get(cmd_name)


def _other_commands() -> dict[str, click.Command]:
    """Every click command of the modules beside this one: a new module is a new command."""
    names = sorted(file.stem for file in Path(__file__).parent.glob("[a-z]*.py") if file.stem != "main")
    modules = (import_module(f"detector.cli.{name}") for name in names)
    commands = (value for module in modules for value in vars(module).values() if isinstance(value, click.Command))
    return {command.name: command for command in commands if command.name}


@click.group(cls=LazyGroup, epilog=_EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ocrfleet")
def cli() -> None:
    """Finds where text is in images. No queue, no server: pixels in, boxes out."""


_TORCH_EXTRA = ("torch", "torchvision", "torch_pruning", "safetensors", "onnx", "matplotlib")


def main(arguments: list[str] | None = None) -> None:
    """The program: runs a command and turns every foreseen trouble into one line and an exit code."""
    code: Any = OK
    try:
        code = cli.main(arguments, prog_name="ocr-detector", standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):
        say("interrupted")
        code = INTERRUPTED
    except click.exceptions.NoArgsIsHelpError as error:  # a command without arguments: its whole help
        error.show()
        code = USAGE
    except click.ClickException as error:
        say(_mistake(error))
        code = USAGE
    except ModelError as error:
        say(str(error))
        code = USAGE
    except ModuleNotFoundError as error:
        say(_missing(error))
        code = USAGE
    except MemoryError:
        say("not enough memory; give smaller sizes (--help names them) or a machine with more")
        code = FAILED
    except BrokenPipeError:  # whoever read our lines has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = FAILED
    except OSError as error:
        say(f"{show(error.filename) if error.filename else 'system'}: {error.strerror or error}")
        code = USAGE
    sys.exit(code if isinstance(code, int) else OK)


def _mistake(error: click.ClickException) -> str:
    """One line for a wrong command line, and where to read on."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    command = context.command_path if context else "ocr-detector"
    return f"{command}: {' '.join(error.format_message().split())} (more: {command} --help)"


def _missing(error: ModuleNotFoundError) -> str:
    """One line for a package that is not installed."""
    package = (error.name or "").split(".")[0]
    if package == "detector":
        raise error
    extra = "torch" if package in _TORCH_EXTRA else {"openvino": "openvino"}.get(package, "worker")
    return f"this needs {package}, which is not installed: pip install 'ocrfleet[{extra}]'"
