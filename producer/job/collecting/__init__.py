"""What a collector asks before it takes a record, and where it puts what is none."""
