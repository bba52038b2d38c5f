"""How good and how fast: ground truth, the matching protocol, hmean, runs in a process of their own."""
