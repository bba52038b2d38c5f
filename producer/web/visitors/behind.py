"""What comes behind a request that is not answered yet: that its client has left, or a next request.

asyncio tells that a client has left only while it reads, and uvicorn stops reading at the first byte behind a request,
until the answer is there: who sent one and left was waited for, and his job stayed. So a little is read: a next request
(pipelining), which is answered in its turn. Where it is more, that is dropped, and the connection ends with the answer.
"""

from __future__ import annotations

import h11
from uvicorn.protocols.http.flow_control import CLOSE_HEADER
from uvicorn.protocols.http.h11_impl import H11Protocol

MOST_BYTES = 16 << 10
"""As much as a request's head may have."""


class ListeningProtocol(H11Protocol):
    """HTTP/1.1 that hears when a client leaves before its answer."""

    _drops = False

    def data_received(self, data: bytes) -> None:
        """Take what came, unless it is behind too much."""
        if not self._drops:
            super().data_received(data)

    def handle_events(self) -> None:
        """Look at what came, and read on where it is all of a request."""
        super().handle_events()
        if not self.flow.read_paused or self.conn.their_state is h11.SEND_BODY:
            return
        if len(self.conn.trailing_data[0]) > MOST_BYTES:
            if self.cycle.response_started:  # it may lack its end alone, which its client does not wait for to ask on
                return
            self._drops = True
            self.headers.append(CLOSE_HEADER)  # uvicorn answers so who asks for it
        self.flow.resume_reading()
