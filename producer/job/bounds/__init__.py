"""What the jobs of one process may hold at a time."""
