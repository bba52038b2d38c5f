"""Training on a GPU by the clock: many processes draw crops, several models learn from them at once."""
