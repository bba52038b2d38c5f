"""What the three programs share: commands by name, and every foreseen trouble as one line and an exit code."""

from __future__ import annotations

import errno
import gc
import os
import resource
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from detector.cli.environment import leave_others_temporary_folder, unknown_names
from detector.cli.say import log_printable, say
from detector.cli.streams import set_up_streams
from detector.errors import is_out_of_processes, show
from detector.exit_codes import ExitCode
from detector.memory import collect_little_at_start

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
Explained = tuple[str, ExitCode]
Explain = Callable[[Exception], Explained | None]


def explain_nothing(error: Exception) -> Explained | None:
    """For a program whose libraries raise nothing that a user could put right."""
    return None


def explain_system(error: Exception, then: str = "") -> Explained | None:
    """The line and the exit code for what the operating system refuses, with the limit that it holds to; else None.

    Args:
        error: of any library.
        then: what to do when there is room, or the limit was raised.
    """
    if is_out_of_processes(error):
        most = _limit(resource.RLIMIT_NPROC, 0)
        line = f"no further process or thread may be started (`ulimit -u`{most}; a container's pids.max): raise it"
    elif not isinstance(error, OSError):
        return None
    else:
        where = show(error.filename) if isinstance(error.filename, str) else error.filename
        line = f"{where}: {error.strerror or error}" if where else str(error.strerror or error)
        if error.errno in DISK_FULL:
            line += "; make room" if then else ""
        elif error.errno == errno.EFBIG and error.strerror == os.strerror(errno.EFBIG):
            line += f" (`ulimit -f`{_limit(resource.RLIMIT_FSIZE, 10)}, or the file system's own limit): raise it"
        else:
            return line, ExitCode.USAGE
    return line + then, ExitCode.INTERRUPTED if then else ExitCode.USAGE


def _limit(kind: int, unit: int) -> str:
    soft = resource.getrlimit(kind)[0]
    return "" if soft == resource.RLIM_INFINITY else f": {soft >> unit:,}{' KiB' if unit else ''} here"


class Program(click.Group):
    """A group of commands, each imported only when it is called: `--help` needs neither Redis nor a network.

    An exception with an ``exit_code`` (`detector.exit_codes.ExitCode`) becomes its text on one line; what ``explain``
    knows, that; any other is a bug: a traceback under one line that says where to report it, and exit code 70.

    Args:
        commands: name -> ("module:attribute", short help).
        explain: gives the line and the exit code for exceptions of libraries, None for those it does not know.
        prefix: before the line of an error.
        settings: as for `click.Group`.
    """

    def __init__(
        self,
        *arguments: Any,
        commands: Mapping[str, tuple[str, str]],
        explain: Explain = explain_nothing,
        prefix: str = "",
        **settings: Any,
    ) -> None:
        super().__init__(*arguments, **settings)
        self._table = dict(commands)
        self._explain = explain
        self._prefix = prefix

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """What a program calls, which has the process to itself: `main`, with little time for garbage."""
        begin_again_in_utf8()
        set_up_streams()
        os.umask(os.umask(0o077) | 0o002)  # with 000 anybody could put a model into ~/.cache/ocrfleet; a group may
        collect_little_at_start()
        log_printable()
        if told := leave_others_temporary_folder(os.environ):
            say(f"note: {told}")
        try:
            return super().__call__(*arguments, **options)
        finally:
            gc.freeze()  # Python's last look at all that is there took 0.06 s of a command's 0.4

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names, sorted."""
        return sorted(self._table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name, imported now; None if there is none."""
        if cmd_name not in self._table:
            return None
        module, attribute = self._table[cmd_name][0].split(":")
        command = getattr(import_module(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{module}:{attribute} is no click command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list under `--help`, from the table alone."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, self._table[name][1]) for name in self.list_commands(ctx)])

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Runs a command; in standalone mode (as a program) ends the process with its exit code."""
        words = list(sys.argv[1:] if args is None else args)
        name = prog_name or self.name or "ocrfleet"

        def run() -> Any:
            group: Any = super(Program, self)  # click's overloads know no standalone_mode that is decided at run time
            return group.main(words, name, complete_var, False, windows_expand_args, **extra)

        if not standalone_mode:
            return run()
        if wrong := unknown_names(os.environ):
            say(f"warning: {wrong}")
        sys.exit(run_to_exit_code(run, f"{name} {' '.join(words)}".strip(), self._explain, self._prefix))


def begin_again_in_utf8() -> None:
    """In a locale that is not UTF-8 (ISO-8859-1, EUC-JP), become the same program in Python's UTF-8 mode.

    Names in archives and in our own files are UTF-8, and most are none in such a locale: pages failed as not found, and
    overlays ended in a traceback. Programs that this one starts inherit the mode, workers among them. In the locales C
    and POSIX Python goes by itself; Python 3.15 always does.
    """
    words = Path("/proc/self/cmdline")  # the bytes as they were given; sys.orig_argv went through the locale
    if sys.getfilesystemencoding() == "utf-8" or os.environ.get("PYTHONUTF8") == "1" or not words.exists():
        return
    arguments = words.read_bytes().split(b"\0")[:-1]
    os.execve(sys.executable, arguments, {**os.environb, b"PYTHONUTF8": b"1"})


def run_to_exit_code(run: Callable[[], Any], doing: str, explain: Explain, prefix: str = "") -> int:
    """Calls ``run`` and says on stderr what went wrong.

    Args:
        run: the command; its value is the exit code if it is an int.
        doing: the command line, for the report of a bug.
        explain: see `Program`.
        prefix: see `Program`.
    """
    try:
        code = run()
        return int(code) if isinstance(code, int) else ExitCode.OK
    except (click.exceptions.Abort, KeyboardInterrupt):
        return _say("interrupted", ExitCode.INTERRUPTED)
    except click.exceptions.NoArgsIsHelpError as error:  # a command without arguments: its whole help
        error.show()
        return ExitCode.USAGE
    except click.ClickException as error:
        return _say(_mistake(error, doing), error.exit_code)
    except BrokenPipeError:  # whoever read our lines has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.FAILED
    except Exception as error:
        if isinstance(code := getattr(error, "exit_code", None), ExitCode):
            return _say(f"{prefix}{error}", code)
        if (explained := explain(error)) is not None:
            return _say(f"{prefix}{explained[0]}", explained[1])
        from importlib.metadata import version  # with email and zipfile: a fifth of what --help takes

        line = f"This is a bug in ocrfleet {version('ocrfleet')}, met by: {doing}"
        _say(f"{line}\nPlease report it with these lines (CONTRIBUTING.md says where):", ExitCode.BUG)
        say(*traceback.format_exc().rstrip("\n").split("\n"))
        return ExitCode.BUG


def _say(line: str, code: int) -> int:
    say(*line.split("\n"))
    return code


def _mistake(error: click.ClickException, doing: str) -> str:
    """One line for a wrong command line, and where to read on."""
    text = " ".join(error.format_message().split())
    if not isinstance(error, click.UsageError):
        return text
    command = error.ctx.command_path if error.ctx else doing.split(" ", 1)[0]
    return f"{command}: {text} (more: {command} --help)"
