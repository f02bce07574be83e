"""JSON objects, one a line, over a socket: how supervisors speak with each other and with their ranks."""

from __future__ import annotations

import json
import socket
from typing import Any

Message = dict[str, Any]

_LONGEST = 1 << 20  # bytes of an unfinished line beyond which the other end is no friend


class Lines:
    """One end of the conversation. Both ends may send at any time; neither waits for the other."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._rest = b""

    def send(self, message: Message) -> None:
        """Sends one message; an end that is gone is noticed when receiving, so nothing is raised here."""
        try:
            self.connection.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            return

    def receive(self) -> list[Message]:
        """The messages that have arrived, after waiting for the first bytes; EOFError where the other end is gone."""
        try:
            data = self.connection.recv(1 << 16)
        except TimeoutError:
            return []
        except OSError as cause:
            raise EOFError from cause
        if not data or len(self._rest) > _LONGEST:
            raise EOFError
        *whole, self._rest = (self._rest + data).split(b"\n")
        return [json.loads(line) for line in whole]

    def close(self) -> None:
        """No more messages."""
        self.connection.close()
