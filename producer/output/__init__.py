"""What a person gets: terminal progress, report, overlays, exports."""
