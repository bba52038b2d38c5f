"""Decoders of one format each, and what they share: damage, and what libraries remark on it."""
