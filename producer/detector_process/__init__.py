"""Detector child processes: the producer itself never decodes an image."""
