"""Every kind of fault that Redis and the network have, over one job."""

from __future__ import annotations

import pytest

from tests.faults.rig import Rig
from tests.faults.short_form import REDIS, meet

pytestmark = pytest.mark.chaos


def test_a_job_whose_redis_meets_every_fault(rig: Rig) -> None:
    meet(rig, REDIS)
