"""``python -m detector.cli``."""

from detector.cli.main import main

main()
