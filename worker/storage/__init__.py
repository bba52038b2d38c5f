"""Where a page's bytes come from: shared files, remote objects, the spool."""

from worker.storage.files import Fetch, Storage

__all__ = ["Fetch", "Storage"]
