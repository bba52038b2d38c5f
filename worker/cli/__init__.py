"""The ocr-worker program."""

from worker.cli.main import main

__all__ = ["main"]
