"""The Celery app and all that runs beside an image: job ledger, queue, storage, leases, cleanup, fleet checks."""
