"""What all commands of `ocr-worker` share: exit codes, one-line errors, turning into Celery."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, NoReturn

import click

from worker.process import MALLOC_ENVIRONMENT
from worker.settings import SettingsError

EXIT_BAD, EXIT_USAGE, EXIT_BROKER = 1, 2, 3


class BrokerError(click.ClickException):
    exit_code = EXIT_BROKER


class BadSettings(click.ClickException):
    exit_code = EXIT_USAGE


def clear_errors(command: Callable[..., Any]) -> Callable[..., Any]:
    """One line and the right exit code instead of a traceback for what a user can put right."""

    @wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        # Inside: `ocr-worker --help` must not need Redis.
        from redis.exceptions import RedisError

        from detector.errors import ModelError
        from worker.broker import BrokerUnreachable, refusal

        try:
            return command(*args, **kwargs)
        except (SettingsError, ModelError) as error:
            raise BadSettings(str(error)) from None
        except BrokerUnreachable as error:
            raise BrokerError(str(error)) from None
        except RedisError as error:
            raise BrokerError(refusal(error)) from None

    return wrapped


def replace_by_celery(*arguments: str) -> NoReturn:
    """Become ``celery -A worker.app ...``: signals then reach Celery itself."""
    environment = {**MALLOC_ENVIRONMENT, **os.environ}
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, "-m", "celery", "-A", "worker.app", *arguments], environment)
