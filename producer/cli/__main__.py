"""``python -m producer.cli``: the same as ``ocr-producer``."""

from producer.cli.main import main

main()
