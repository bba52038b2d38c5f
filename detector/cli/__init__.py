"""The ocr-detector program: words of the command line in, lines and exit codes out."""

from detector.cli.main import main

__all__ = ["main"]
