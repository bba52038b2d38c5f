"""The job ledger: which page has which record, in a few keys with atomic Lua steps."""

from worker.ledger.ledger import Begin, JobStatus, Ledger
from worker.ledger.patient import open_ledger

__all__ = ["Begin", "JobStatus", "Ledger", "open_ledger"]
