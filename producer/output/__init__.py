"""What users see of a job: progress and summary on the terminal, report, overlays, exports."""
