"""Names of files that may hold pages. What a file really is, its first bytes decide (`sniff.kind_of`)."""

from pathlib import PurePath

PDF_SUFFIXES = frozenset({".pdf"})
TIFF_SUFFIXES = frozenset({".tif", ".tiff"})
PAGED_SUFFIXES = PDF_SUFFIXES | TIFF_SUFFIXES
IMAGE_SUFFIXES = PAGED_SUFFIXES | frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".avif", ".jp2", ".ppm", ".pgm", ".pbm"),
        *(".pnm", ".mpo", ".j2k", ".j2c", ".jpc", ".jpx", ".jpf", ".dib", ".tga", ".pcx", ".heic", ".heif", ".hif"),
    )
)
UNREAD_SUFFIXES = frozenset((".jxl", ".djvu", ".djv", ".7z", ".rar", ".cbr", ".cb7", ".tzst", ".psd", ".psb", ".svg"))
"""Pictures, documents and archives that are known but not read: each becomes a failed record that says what to do."""


def is_taken(name: PurePath) -> bool:
    """Whether a file of this name, met in a folder or an archive, becomes a page: one that is read, or a failed one."""
    suffix = name.suffix.lower()
    return suffix in IMAGE_SUFFIXES or suffix in UNREAD_SUFFIXES or name.name.lower().endswith(".tar.zst")


def is_page(name: PurePath) -> bool:
    """Whether a file in a folder that is searched counts, by its name below that folder: an image, nothing hidden."""
    return name.suffix.lower() in IMAGE_SUFFIXES and not any(part.startswith(".") for part in name.parts)
