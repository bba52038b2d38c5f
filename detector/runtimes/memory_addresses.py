"""A model in which weights are said to lie at an address of memory: OpenVINO believes it, of a stranger's file too."""

from __future__ import annotations

import mmap
from pathlib import Path

from detector.errors import ModelError

MARK = b"_ORT_MEM_ADDR_"
"""ONNX Runtime's, within a process: external data of this location has its address as offset. No file has any."""


def refuse_addresses(model: Path) -> None:
    """To be asked before OpenVINO sees an .onnx file: 2026.4 reads what lies at the address, or dies of it.

    Raises:
        ModelError: the file holds that mark. ONNX Runtime refuses such a file by itself.
        OSError: it cannot be read.
    """
    with model.open("rb") as file:
        if not file.seek(0, 2):
            return  # which cannot be mapped
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            found = content.find(MARK)
    if found >= 0:
        raise ModelError(f"{model}: says that its weights are at an address of memory; no honest file does, remove it")
