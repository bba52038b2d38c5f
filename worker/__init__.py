"""The Celery app, the job ledger, the memory guard and the cleanup: everything that runs beside an image."""
