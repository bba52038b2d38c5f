"""A place for an upload that nobody else wants."""

from __future__ import annotations

from producer.web.bounds.upload_places import Place, UploadPlaces


def lone_place() -> Place:
    place = UploadPlaces(1).take()
    assert place is not None
    return place
