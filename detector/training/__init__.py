"""Training of the detector: targets, losses, augmentation, synthetic pages, the loop."""
