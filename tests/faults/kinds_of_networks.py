"""Faults of the network, and of which server is the server."""

from __future__ import annotations

import time

from tests.faults.kinds import AWAY_S, STOP_S
from tests.faults.proxy import Proxy
from tests.faults.server import FaultyServer
from tests.faults.trial import Trial
from tests.redis_users import ROLES

SLOW_S = 0.2
LOSS = 0.05


def network_cut(trial: Trial) -> None:
    """Everybody loses the server: packets vanish, no connection is closed."""
    trial.rig.proxy.cut = True
    time.sleep(STOP_S)
    trial.rig.proxy.cut = False


def _behind_proxy(trial: Trial) -> None:
    assert trial.rig.proxy


network_cut.prepare = _behind_proxy  # type: ignore[attr-defined]


def network_slow(trial: Trial) -> None:
    """A round trip of 200 ms, and one packet of twenty is lost, each way."""
    proxy = trial.rig.proxy
    proxy.delay_s, proxy.loss = SLOW_S / 2, LOSS
    time.sleep(STOP_S)
    proxy.delay_s = proxy.loss = 0.0


network_slow.prepare = _behind_proxy  # type: ignore[attr-defined]


def machine_cut_off(trial: Trial) -> None:
    """One worker loses the server, for longer than a lease: it ends its page, and comes back with a late record."""
    line = trial.lines[0]
    line.cut = True
    time.sleep(STOP_S)
    line.cut = False


def _line_of_its_own(trial: Trial) -> None:
    line = Proxy(trial.rig.proxy.port)
    trial.lines.append(line)
    trial.rig.closing.callback(line.close)
    trial.slots[0].environment["OCRFLEET_REDIS_URL"] = line.url


machine_cut_off.prepare = _line_of_its_own  # type: ignore[attr-defined]


def failover(trial: Trial) -> None:
    """The replica takes over: the old server refuses (READONLY) for a moment, then the address is the new one's.

    It knows what the old one knew. One that was behind by a whole job has that of another epoch, which a person must
    decide about (docs/security.md, Open).
    """
    rig, old, new = trial.rig, trial.rig.server, trial.replicas.pop()
    deadline = time.monotonic() + 20
    while not old.client.wait(1, 1000):  # it was started anew a moment ago, perhaps
        if time.monotonic() > deadline:
            raise TimeoutError("the replica does not follow")
    new.client.replicaof("NO", "ONE")
    old.client.replicaof("127.0.0.1", str(new.port))
    time.sleep(AWAY_S)
    rig.proxy.target = new.port
    rig.server = new
    rig.proxy.drop()


def _with_replica(trial: Trial) -> None:
    server = trial.rig.server
    replica = FaultyServer(trial.rig.folder / "replica", binary=server.binary, users=server.users)
    replica.follow(server)
    trial.rig.closing.callback(replica.close)
    trial.replicas.append(replica)
    assert trial.rig.proxy
    deadline = time.monotonic() + 20
    while replica.client.info("replication")["master_link_status"] != "up":
        if time.monotonic() > deadline:
            raise TimeoutError("the replica does not follow")
        time.sleep(0.05)


failover.prepare = _with_replica  # type: ignore[attr-defined]


def password_changed(trial: Trial) -> None:
    """The operator changes the server's passwords before the fleet's, and notices."""
    operator = trial.rig.server.client
    for role in ROLES:
        operator.acl_setuser(role, enabled=True, reset_passwords=True, passwords="+another", categories=[])
    for kind in ("normal", "pubsub"):
        operator.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
    time.sleep(AWAY_S)
    operator.acl_load()
