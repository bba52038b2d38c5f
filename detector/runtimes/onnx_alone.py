"""Both runtimes read an .onnx file as ONNX, and as nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from detector.errors import first_line
from detector.runtimes.memory_addresses import refuse_addresses

if TYPE_CHECKING:
    import onnxruntime
    import openvino


def onnx_options() -> onnxruntime.SessionOptions:
    """Options of an ONNX Runtime session: by default bytes, and what is called .ort, may be its own format."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.load_model_format", "ONNX")
    return options


def read_onnx(model: Path) -> openvino.Model:
    """The network of an .onnx file, perhaps a stranger's, for `openvino.Core.compile_model`.

    Given the file's name, OpenVINO 2026.4 shows it to the readers of all its formats, whatever it is called: its own
    XML had the weights of `NAME.bin` read, through a link out of the folder too, and TensorFlow's text was parsed. The
    reader of ONNX alone takes weights of the model's folder only, through no link out of it.

    Raises:
        ModelError: its weights are said to lie in memory.
        RuntimeError: it is no ONNX, or OpenVINO cannot read it.
        OSError: it cannot be opened.
    """
    from openvino import frontend

    refuse_addresses(model)
    failures = (
        RuntimeError,
        *(frontend.GeneralFailure, frontend.InitializationFailure, frontend.NotImplementedFailure),
        *(frontend.OpConversionFailure, frontend.OpValidationFailure),
    )
    reader = frontend.FrontEndManager().load_by_framework("onnx")
    try:
        return reader.convert(reader.load(str(model)))
    except failures as error:  # of which the reader's own have no base class but Exception
        raise RuntimeError(reason(error)) from error


def reason(error: Exception) -> str:
    """OpenVINO begins with lines that say where in its source it was, and what it was about to do."""
    preface = ("Exception from", "Check '", "FrontEnd API", "Loading input model", "Model wasn't fully", "Summary:")
    lines = (line for line in str(error).splitlines() if not line.startswith(preface))
    return first_line(RuntimeError("\n".join(lines)))
