"""How much a job may grow to by what strangers' files and the broker say: one number each, asked wherever it counts."""

from __future__ import annotations

from detector.images.pdf_tree import BELIEVED_PAGES as BELIEVED_PAGES
from detector.images.pdf_tree import MOST_PAGES_OF_A_FILE as MOST_PAGES_OF_A_FILE
from worker.redis_keys import MOST_PAGES_OF_A_JOB as MOST_PAGES_OF_A_JOB

MOST_LINE_BYTES = 16 << 10
"""Of a line of a manifest: the longest path there is, 4,096 bytes, takes that as name and address."""
