"""A worker whose pages take 8 s, and that asks after Redis' health each second: as pages of four minutes would.

A worker of a test loads this module: ``-I tests.faults.attentive``.
"""

from __future__ import annotations

from tests.faults import slow
from worker.app import app

slow.SECONDS = 8.0
app.conf.broker_transport_options = {**app.conf.broker_transport_options, "health_check_interval": 1}
