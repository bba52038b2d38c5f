"""Reads .onnx files, perhaps a stranger's, to make others of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from detector.errors import DetectorError, first_line
from detector.models import MOST_ONNX_BYTES

if TYPE_CHECKING:
    import onnx


class OnnxImportError(DetectorError):
    """The file is no DB-family network, or not one that could be rewritten; one line without the file's name."""


def load_whole(file: Path) -> onnx.ModelProto:
    """A network with all its weights, also those that are in other files of its folder.

    Raises:
        OnnxImportError: not ONNX, or onnx does not open a file that holds its weights: a link, one of another folder.
        OSError: it cannot be read.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    if file.stat().st_size > MOST_ONNX_BYTES:  # which is read whole
        raise OnnxImportError(f"larger than {MOST_ONNX_BYTES >> 20} MB; no network that finds text is")
    try:
        model = onnx.load(str(file), format="protobuf", load_external_data=False)
    except (DecodeError, ValueError) as error:
        raise OnnxImportError(f"not an ONNX file, or damaged ({first_line(error, 200)})") from None
    try:
        onnx.load_external_data_for_model(model, str(file.parent))
    except (onnx.checker.ValidationError, ValueError, RuntimeError) as error:  # the last: a name of 5,000 characters
        raise OnnxImportError(
            f"its weights are in another file, which is not read ({first_line(error, 200)})"
        ) from None
    except TypeError:  # onnx 1.23 takes no such name
        raise OnnxImportError("its weights are in another file, and its folder's name is not UTF-8: move it") from None
    return model


def read_onnx(file: Path) -> onnx.ModelProto:
    """A network as `load_whole` has it, if it is sound.

    Raises:
        OnnxImportError: not ONNX, or damaged.
    """
    import onnx

    model = load_whole(file)
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise OnnxImportError(f"not an ONNX file, or damaged ({first_line(error, 200)})") from None
    return model
