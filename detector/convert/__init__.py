"""From one network to another: ONNX export, int8, pruning, other projects' weights."""
