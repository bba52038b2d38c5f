"""What becomes of pages on their way to Redis: room for them, what waits, what is refused."""
