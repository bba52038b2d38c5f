"""Where a page's bytes come from: shared files, remote objects, the spool."""
