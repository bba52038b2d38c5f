"""Decoders of one format each, and what they share: damage told, transparency put on paper."""
