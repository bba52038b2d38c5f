"""python -m detector.training.synth: draws pages into a folder."""

from detector.training.synth.render import main

main()
