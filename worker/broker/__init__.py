"""Connections to Redis, the queue, blobs."""
