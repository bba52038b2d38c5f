"""The producer: lists the pages of folders, archives and PDFs, feeds them to workers, and collects the results."""
