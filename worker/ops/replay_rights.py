"""Whether Redis will take back all of its append-only file when it starts anew.

Redis before 8.6 and Valkey before 9.1 ask, of each MULTI/EXEC in that file, what the default user may do now
(redis#14541, valkey#3983). Every script of the ledger is one. Where `users.acl` says `user default off` and no more,
all of them are passed over, in silence: finished jobs are gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import redis

MENDED = {"valkey_version": (9, 1), "redis_version": (8, 6)}
HUB = "hub"
_REMEDY = "its first line must be `user default off resetpass ~* &* +@all`: run deploy/hub.sh again, or load it anew"


def why_forgets(client: redis.Redis, info: Mapping[str, Any]) -> str:
    """One line with the remedy; "" if all is well, or is not to be known: only the hub's user may ask.

    Args:
        client: of any user.
        info: INFO, or its part on the server.
    """
    field = next((name for name in MENDED if name in info), "")
    version = str(info.get(field, "0")).split(".")[:2]
    if field and tuple(int(part) for part in version if part.isdecimal()) >= MENDED[field]:
        return ""
    try:
        answer = client.execute_command("ACL", "DRYRUN", "default", "SET", "ocrfleet", "x")
    except redis.exceptions.NoPermissionError:
        of_hub = client.connection_pool.connection_kwargs.get("username") == HUB
        return f"users.acl is of a version before; {_REMEDY}" if of_hub else ""
    except redis.ResponseError:  # Redis 6.2 knows no DRYRUN
        return ""
    allowed = answer in (b"OK", "OK")
    return "" if allowed else f"a restart of Redis loses every job: the default user has no rights; {_REMEDY}"
