"""One place to import torchvision.

torchvision from PyPI is compiled against the CUDA build of torch; beside a CPU-only torch its C++ operators are
absent and the import fails with "operator torchvision::nms does not exist". We use only its pure-Python models, so
declaring the two operators it asks for is enough. This is done only when the import failed for exactly that reason.
"""

from __future__ import annotations

import sys
from types import ModuleType

import torch

_declared: list[torch.library.Library] = []  # a Library's operators vanish with it


def import_torchvision() -> ModuleType:
    """Returns the torchvision module.

    Raises:
        ImportError: torchvision is not installed.
        RuntimeError: its import failed for another reason than the missing operators.
    """
    try:
        import torchvision
    except RuntimeError as error:
        if "torchvision::nms does not exist" not in str(error):
            raise
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
        for name in ("nms", "qnms"):
            operator = f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            library.define(operator)  # type: ignore[no-untyped-call]
        _declared.append(library)
        import torchvision
    module: ModuleType = torchvision
    return module
