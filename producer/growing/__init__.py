"""Jobs that grow: new files in their sources."""
