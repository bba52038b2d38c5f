"""Models of other projects: which there are, and how they get here. Needs neither torch nor onnx."""
