"""Reading: pixels and boxes in, text out. Knows no queue. Nothing in here is imported before somebody asks for text."""
