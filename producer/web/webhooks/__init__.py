"""Tells another server that a job has ended: signed, to hosts on a list only, again and again until it has heard."""
