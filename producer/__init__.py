"""What a person runs: splits folders, archives and PDFs into pages, feeds them, watches, collects."""
