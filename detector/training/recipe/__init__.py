"""The parts of the recipe of the shipped weights; `detector.training.line_level` is the command that runs it."""
