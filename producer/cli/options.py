"""What all commands of `ocr-producer` share: exit codes, one-line errors, common options."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from producer.errors import EXIT_BROKER, EXIT_INTERRUPTED, EXIT_NOTHING, EXIT_USAGE, Stop
from worker.messages import JOB_NAME


def clear_errors(command: Callable[..., Any]) -> Callable[..., Any]:
    """Translate what can go wrong into :class:`Stop`; the user never sees a traceback for what he can put right."""

    @wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        from worker.settings import SettingsError, settings

        try:
            settings()  # before worker.app is imported below, which reads them too
        except SettingsError as error:
            raise Stop(str(error), EXIT_USAGE) from None
        import redis
        from kombu.exceptions import OperationalError

        from producer.job.collect import AlreadyCollectingError
        from producer.job.loop import JobGoneError
        from producer.job.manifest import ManifestError, NothingToDoError
        from producer.job.output_folder import FolderBusyError
        from producer.job.results_owner import OtherJobError
        from producer.local.fleet import LocalFleetError
        from producer.local.server import NoEmbeddedServerError
        from producer.output.overlays import CannotDrawError
        from producer.sources.scan import SourceMissingError
        from worker.broker.connection import BrokerUnreachable, refusal

        try:
            return command(*args, **kwargs)
        except (
            SettingsError,
            FolderBusyError,
            LocalFleetError,
            NoEmbeddedServerError,
            AlreadyCollectingError,
            OtherJobError,
            ManifestError,
        ) as error:
            raise Stop(str(error), EXIT_USAGE) from None
        except BrokerUnreachable as error:
            raise Stop(str(error), EXIT_BROKER) from None
        except (redis.ConnectionError, redis.TimeoutError) as error:
            raise Stop(f"lost the broker: {error}; the job is safe, resume it when it is back", EXIT_BROKER) from None
        except (redis.RedisError, OperationalError) as error:
            raise Stop(refusal(error), EXIT_BROKER) from None
        except (SourceMissingError, NothingToDoError, JobGoneError, CannotDrawError) as error:
            raise Stop(str(error), EXIT_NOTHING) from None
        except OSError as error:
            reason = f"{error.filename or ''}: {error.strerror or error}".lstrip(": ")
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                remedy = "make room, then give the same command again: what is done is kept"
                raise Stop(f"{reason}; {remedy}", EXIT_INTERRUPTED) from None
            raise Stop(reason, EXIT_USAGE) from None

    return wrapped


def check_job_name(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Click callback for ``--job`` and JOB."""
    if value is not None and not JOB_NAME.match(value):
        raise click.BadParameter("use 1 to 64 of letters, digits, '.', '_', '-', beginning with a letter or digit")
    return value


def default_job_name() -> str:
    """A name that sorts by time."""
    return time.strftime("job-%Y%m%d-%H%M%S")


def absolute(sources: tuple[str, ...]) -> list[str]:
    """Sources as absolute paths, so that resuming from another folder finds them; ``-`` and addresses stay."""
    return [source if source == "-" or "://" in source else str(Path(source).absolute()) for source in sources]


sources_argument = click.argument("sources", metavar="PATH...", nargs=-1, required=True)
quiet_option = click.option("--quiet", "-q", is_flag=True, help="No progress; only errors and the summary's totals.")
limit_side_option = click.option(
    "--limit-side",
    type=click.IntRange(32, 8192),
    help="Long side the network sees at most, pixels. Images only shrink.",
)
out_option = click.option(
    "-o", "--out", "out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Output folder."
)
