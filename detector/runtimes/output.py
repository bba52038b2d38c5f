"""What every runtime asks of a network's output, before anything is read out of it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from detector.errors import NetworkFailed


def page_map(output: object, height: int, width: int) -> npt.NDArray[np.float32]:
    """The map in a network's output: 0.03 ms at 640x640, of some 90 ms that a page takes.

    A NaN is below every threshold: without this look a page of NaN is a page without text.

    Args:
        output: as the runtime gave it, for one page.
        height: of the network's input, pixels.
        width: likewise.

    Returns:
        (height, width) float32, every value finite.

    Raises:
        NetworkFailed: it is no (1, 1, height, width) floats, or not all are finite.
    """
    shape = getattr(output, "shape", None)
    if not isinstance(output, np.ndarray) or output.dtype.kind != "f" or shape != (1, 1, height, width):
        found = f"{output.dtype} {shape}" if isinstance(output, np.ndarray) else f"a {type(output).__name__}"
        raise NetworkFailed(
            f"the network's output is no map of the page: expected float32 (1, 1, {height}, {width}), found {found}; "
            "use another model"
        )
    found_map: npt.NDArray[np.float32] = output[0, 0].astype(np.float32, copy=False)
    check_finite(found_map)
    return found_map


def check_finite(values: npt.NDArray[np.floating]) -> None:
    """Raises NetworkFailed if something in a network's output is NaN or infinite."""
    if not np.isfinite(values).all():
        raise NetworkFailed(
            "the network's output is not finite (NaN or infinite values), so nothing is known of this page; "
            "try another --runtime or model"
        )
