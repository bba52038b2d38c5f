"""Every kind of fault that processes and machines have, over one job."""

from __future__ import annotations

import pytest

from tests.faults.rig import Rig
from tests.faults.short_form import PROCESSES, left_out, meet

pytestmark = pytest.mark.chaos


def test_a_job_whose_processes_meet_every_fault(rig: Rig) -> None:
    meet(rig, PROCESSES)


def test_no_kind_is_left_out() -> None:
    assert not left_out()
