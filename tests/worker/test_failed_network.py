"""A worker whose network says nothing of a page: a failed record, and the next page is done."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.detector.runtimes.odd_models import write_odd_model
from worker import detection
from worker.detection import ImageRunner
from worker.messages import ImageTask
from worker.settings import read_settings


def test_the_page_fails_and_the_worker_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: "ok" without boxes, like a blank page."""
    monkeypatch.setattr(detection, "limit_memory", lambda _: None)  # of the process of all tests
    model = write_odd_model(tmp_path / "odd.onnx", "nan-on-white")
    runner = ImageRunner(
        read_settings(
            {
                "OCRFLEET_MODEL": str(model),
                "OCRFLEET_ROOTS": str(tmp_path),
                "OCRFLEET_SPOOL_DIR": str(tmp_path / "spool"),
                "OCRFLEET_RUNTIME": "onnxruntime",
            }
        )
    )
    records = []
    for index, colour in enumerate((0, 255, 0)):
        page = tmp_path / f"{index}.png"
        Image.new("L", (64, 64), colour).save(page)
        task = ImageTask(job="j", index=index, image=page.name, uri=page.as_uri())
        records.append(runner.run(task, attempts=1, losses=0))
    assert [record.status for record in records] == ["ok", "failed", "ok"]
    assert records[1].error is not None
    assert records[1].error.type == "Internal" and "not finite" in records[1].error.message
