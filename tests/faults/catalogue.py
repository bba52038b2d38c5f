"""All kinds of fault, by name."""

from __future__ import annotations

from tests.faults import kinds, kinds_of_machines, kinds_of_networks
from tests.faults.trial import Inject

KINDS: dict[str, Inject] = {
    function.__name__.replace("_", " "): function
    for function in (
        *(kinds.kill_child, kinds.kill_main, kinds.terminate_worker),
        *(kinds.kill_producer, kinds.terminate_producer, kinds.kill_collector),
        *(kinds.stop_worker, kinds.stop_collector, kinds.stop_producer),
        *(kinds.redis_killed, kinds.redis_shutdown, kinds.redis_stopped, kinds.redis_emptied, kinds.flushall),
        *(kinds.client_pause, kinds.client_kill, kinds.memory_full, kinds.read_only),
        *(kinds.duplicates, kinds.messages_lost, kinds.rubbish),
        *(kinds.two_collectors, kinds.two_producers, kinds.poison, kinds.broken_image),
        *(kinds_of_networks.network_cut, kinds_of_networks.network_slow, kinds_of_networks.machine_cut_off),
        *(kinds_of_networks.failover, kinds_of_networks.password_changed),
        *(kinds_of_machines.redis_disk_full, kinds_of_machines.spool_full, kinds_of_machines.output_full),
        *(kinds_of_machines.out_of_memory, kinds_of_machines.clock_ahead, kinds_of_machines.clock_behind),
        *(kinds_of_machines.two_beats, kinds_of_machines.upgrade),
    )
}
