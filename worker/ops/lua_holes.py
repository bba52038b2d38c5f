"""Whether the server's Lua is of before October 2025, with holes that whoever may run a script can use.

Workers and producers may load any script (the ledger is scripts), so a stolen password of theirs runs code as the
server by CVE-2025-49844, or commands as another user by CVE-2025-46818. Versions tell little: distributions mend theirs
and keep the number. One of the four repairs of that release can be seen: the table that all texts share is read-only.
"""

from __future__ import annotations

import redis

# Without the repair it takes away what is not there. Tried: Redis 6.2.14 allows it; Debian's 7.0.15 and Valkey 9.1 not.
_PROBE = "return pcall(function() getmetatable('').ocrfleet = nil end) and 1 or 0"
REMEDY = (
    "; its Lua has holes that were mended in October 2025 (CVE-2025-49844, CVE-2025-46818): whoever has a worker's "
    "password may run code there. Update it: Redis 6.2.20, 7.2.11, 7.4.6, 8.0.4, 8.2.2, or your distribution's package"
)


def has_lua_holes(client: redis.Redis) -> bool:
    """Whether the server lacks the repairs. False where that cannot be asked."""
    try:
        return bool(client.register_script(_PROBE)() == 1)
    except redis.ResponseError:
        return False
