"""The text detection network (DBNet) and its backbones; the only part of inference that needs torch."""
