"""Which names Flower answers to while it asks for no password, see `detector.http.own_name`.

A login guards against foreign names too, since browsers keep logins by name: then any name may be used.
"""

from __future__ import annotations

from typing import Any

from detector.http.own_name import MISDIRECTED, is_own_name

REMEDY = "Flower has no password, and answers 127.0.0.1 and localhost only: set FLOWER_BASIC_AUTH=user:password"


def check_hosts() -> None:
    """From now on Flower refuses requests by a foreign name, unless it asks for a login."""
    from flower.app import Flower
    from tornado.web import ErrorHandler

    class ForeignHost(ErrorHandler):
        """Answers with the remedy."""

        def write_error(self, status_code: int, **kwargs: Any) -> None:
            self.set_header("Content-Type", "text/plain; charset=utf-8")
            self.finish(f"{status_code}: {REMEDY}\n")

    find_handler = Flower.find_handler

    def find_own(self: Any, request: Any, **kwargs: Any) -> Any:
        if self.options.basic_auth or self.options.auth or is_own_name(request.host_name):
            return find_handler(self, request, **kwargs)
        return self.get_handler_delegate(request, ForeignHost, {"status_code": MISDIRECTED})

    Flower.find_handler = find_own
