"""How much a job may grow to by what strangers' files and the broker say: one number each, asked wherever it counts."""

from __future__ import annotations

from worker.redis_keys import MOST_PAGES_OF_A_JOB as MOST_PAGES_OF_A_JOB

MOST_PAGES_OF_A_FILE = 100_000
"""Ten times the thickest books there are as one PDF, and more than the 65,535 pages that TIFF readers go to. A file
of 300 bytes can say that it has a million; 100,000 are 20 MB of manifest."""

BELIEVED_PAGES = 1_000
"""Up to so many a damaged PDF may say: pdfium opens pages whose place in the tree pypdf cannot read, and a record of
each that cannot be opened is no great cost. Above, what the tree can list counts."""

MOST_LINE_BYTES = 16 << 10
"""Of a line of a manifest: the longest path there is, 4,096 bytes, takes that as name and address."""
