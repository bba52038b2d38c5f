"""``python -m worker.cli`` is ``ocr-worker``."""

from worker.cli.main import main

main()
