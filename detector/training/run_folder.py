"""Writing into the folder of a run, which may be a stranger's: `--resume` takes any that has the files of one."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np

from detector.atomic import atomic_write
from detector.errors import DetectorError, show


class RunFolderError(DetectorError):
    """Something in a run's folder is not the run's; one line with the remedy."""


def without_links(folder: Path) -> Path:
    """A folder of copies and maps, if what is written into it stays there: links to files are replaced, not followed.

    Raises:
        RunFolderError: it is a link, or there is one to a folder somewhere in it.
    """
    found = [folder, *(Path(inside, name) for inside, names, _ in os.walk(folder) for name in names)]
    for link in found:
        if link.is_symlink():
            raise RunFolderError(f"{show(link)}: is a link, and pictures would be written through it; remove it")
    return folder


def write_picture(path: Path, pixels: np.ndarray, settings: list[int], *, sync: bool = False) -> None:
    """Encodes into a whole file or none: a killed run must not leave half a picture behind.

    Args:
        path: its suffix is the format; a link is replaced.
        pixels: (H, W) or (H, W, 3) uint8 BGR.
        settings: of cv2.imencode.
        sync: it is on the disk afterwards.
    """
    with atomic_write(path, sync=sync) as unfinished:
        unfinished.write_bytes(cv2.imencode(path.suffix, pixels, settings)[1].tobytes())
