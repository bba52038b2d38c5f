"""The Redis lists that kombu keeps the image queue in."""

from __future__ import annotations

from kombu.transport.redis import PRIORITY_STEPS, Channel

from worker.app import IMAGE_QUEUE

# kombu keeps one list per priority step: the name alone for 0, then name + separator + step.
QUEUE_LISTS = [IMAGE_QUEUE, *(f"{IMAGE_QUEUE}{Channel.sep}{step}" for step in PRIORITY_STEPS if step)]
