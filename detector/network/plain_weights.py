"""Files that torch.save wrote, opened without running what is in them: the one `torch.load` there is."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError  # nosec B403: only to catch it
from typing import Any, BinaryIO

import torch
from torch import Tensor

from detector.errors import ModelError, is_out_of_memory


def check_plain(state: object) -> None:
    """Whether what claims to be weights is numbers by names; torch's other kinds of tensors fail anywhere.

    Raises:
        ModelError: it is no dict, or an entry is no tensor, or a sparse, quantized, complex, boolean or meta one, or
            says more numbers than it has: 26 KB of such took 57 GB where a copy was made.
    """
    if not isinstance(state, Mapping):
        raise ModelError(f"not weights, but a {type(state).__name__}")
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise ModelError(f"not plain weights: {name} is a {type(value).__name__}")
        odd = value.is_quantized or value.is_complex() or value.is_meta or value.dtype == torch.bool
        if odd or value.layout != torch.strided:
            raise ModelError(f"not plain weights: {name} is of {value.dtype}, {value.layout}, on {value.device.type}")
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise ModelError(f"not plain weights: {name} says more numbers than it has")


def load_plain(path: Path, content: BinaryIO | None = None) -> Any:
    """What torch.save wrote, tensors and built-in types only (no code is run).

    Args:
        path: of the file.
        content: its bytes, where they were read already.

    Raises:
        ModelError: not such a file, with its name.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's remarks about the format; what matters is said below in one line
            return torch.load(content or path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # what is no checkpoint fails anywhere in the reader: IndexError, KeyError, ...
        if is_out_of_memory(error):
            raise MemoryError(str(error)) from None
        plain = not isinstance(error, UnpicklingError)
        reason = "damaged or of another format" if plain else "it holds more than plain weights, or is none"
        raise ModelError(f"{path}: cannot be loaded as weights: {reason}") from None
