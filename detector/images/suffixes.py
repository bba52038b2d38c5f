"""Names of files that may hold pages. What a file really is, its first bytes decide (`images.header.sniff`)."""

from pathlib import PurePath

PDF_SUFFIXES = frozenset({".pdf"})
TIFF_SUFFIXES = frozenset({".tif", ".tiff"})
PAGED_SUFFIXES = PDF_SUFFIXES | TIFF_SUFFIXES
IMAGE_SUFFIXES = PAGED_SUFFIXES | frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".avif", ".jp2", ".ppm", ".pgm", ".pbm", ".pnm")
)


def is_page(name: PurePath) -> bool:
    """Whether a file in a folder that is searched counts, by its name below that folder: an image, nothing hidden."""
    return name.suffix.lower() in IMAGE_SUFFIXES and not any(part.startswith(".") for part in name.parts)
