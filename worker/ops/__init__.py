"""What operators look at: doctor, exporter, worker registry, cleanup."""
