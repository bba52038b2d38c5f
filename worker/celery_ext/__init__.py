"""What Celery and kombu do not do by themselves."""
