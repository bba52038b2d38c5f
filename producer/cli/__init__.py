"""The ocr-producer program."""

from producer.cli.main import main

__all__ = ["main"]
