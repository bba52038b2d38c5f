"""Synthetic pages with exact ground truth."""
