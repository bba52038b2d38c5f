"""Files in, small upright RGB pages out: headers, budgets, decoders."""
