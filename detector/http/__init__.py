"""HTTP of Python's own library, within bounds."""
