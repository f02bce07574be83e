"""What stands for `cupy.cuda.nccl` with `--emulate`: a communicator of processes, over TCP on one machine.

It does what NCCL's documentation says of the calls that programs make: messages between two ranks keep their order,
those of a group go at once, and the order in which a sum is added up is the library's own. All of it is done in the
order of a stream, and can be captured.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import threading
from collections import defaultdict, deque
from typing import Any

import numpy as np

from .emulated_streams import launch, touch_at

available = True
NCCL_UINT8, NCCL_INT32, NCCL_INT64, NCCL_FLOAT16, NCCL_FLOAT32, NCCL_FLOAT64 = 1, 2, 4, 6, 7, 8
NCCL_SUM = 0

_TYPES = {1: "u1", 2: "i4", 4: "i8", 6: "f2", 7: "f4", 8: "f8"}
_UNIQUE_ID_BYTES = 128
_FRAME = struct.Struct("<iq")  # the other rank, bytes that follow
_GROUP = threading.local()


def get_unique_id() -> tuple[int, ...]:
    """Where the ranks of a new communicator find each other."""
    server = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=_Router(server).run, daemon=True).start()
    text = str(server.getsockname()[1]).encode()
    return tuple(text.ljust(_UNIQUE_ID_BYTES, b"\0"))


def groupStart() -> None:  # noqa: N802 - CuPy's name
    """Messages from here on go at once."""
    _GROUP.calls = []


def groupEnd() -> None:  # noqa: N802
    """What was called since then is done."""
    calls, _GROUP.calls = _GROUP.calls, None
    for stream in dict.fromkeys(each[-1] for each in calls):
        launch(_pass_on, [each[:-1] for each in calls if each[-1] == stream], on=stream)


def _pass_on(calls: list[tuple[NcclCommunicator, bool, int, int, int]]) -> None:
    """What is sent first, then what comes."""
    for communicator, sends, pointer, size, peer in sorted(calls, key=lambda call: not call[1]):
        communicator.pass_on(sends, pointer, size, peer)


class NcclCommunicator:
    """This process among `ndev`."""

    def __init__(self, ndev: int, commId: tuple[int, ...], rank: int) -> None:
        self._size, self._rank = ndev, rank
        self._heard: defaultdict[int, deque[bytes]] = defaultdict(deque)
        self._socket = socket.create_connection(("127.0.0.1", int(bytes(commId).rstrip(b"\0"))))
        self._socket.sendall(_FRAME.pack(rank, 0))

    def send(self, sendbuf: int, count: int, datatype: int, peer: int, stream: int) -> None:
        """So many elements to another rank."""
        self._call(True, sendbuf, count * np.dtype(_TYPES[datatype]).itemsize, peer, stream)

    def recv(self, recvbuf: int, count: int, datatype: int, peer: int, stream: int) -> None:
        """So many elements of another rank."""
        self._call(False, recvbuf, count * np.dtype(_TYPES[datatype]).itemsize, peer, stream)

    def allReduce(  # noqa: N802
        self, sendbuf: int, recvbuf: int, count: int, datatype: int, op: int, stream: int
    ) -> None:
        """The sum, the last rank's values first."""
        launch(self._sum, sendbuf, recvbuf, count, datatype, on=stream)

    def _sum(self, sendbuf: int, recvbuf: int, count: int, datatype: int) -> None:
        kind = np.dtype(_TYPES[datatype])
        touch_at(sendbuf, count * kind.itemsize, writes=False)
        touch_at(recvbuf, count * kind.itemsize, writes=True)
        own = ctypes.string_at(sendbuf, count * kind.itemsize)
        others = [rank for rank in range(self._size) if rank != self._rank]
        for rank in others:
            self._socket.sendall(_FRAME.pack(rank, len(own)) + own)
        found = {rank: self._next(rank) for rank in others} | {self._rank: own}
        total = np.zeros(count, kind)
        for rank in reversed(range(self._size)):
            total += np.frombuffer(found[rank], kind)
        ctypes.memmove(recvbuf, total.tobytes(), total.nbytes)

    def pass_on(self, sends: bool, pointer: int, size: int, peer: int) -> None:
        """One message."""
        touch_at(pointer, size, writes=not sends)
        if sends:
            self._socket.sendall(_FRAME.pack(peer, size) + ctypes.string_at(pointer, size))
            return
        data = self._next(peer)
        if len(data) != size:
            raise RuntimeError(f"NCCL_ERROR_INVALID_USAGE: {len(data)} bytes were sent, {size} are wanted")
        ctypes.memmove(pointer, data, size)

    def _call(self, sends: bool, pointer: int, size: int, peer: int, stream: int) -> None:
        calls: list[Any] | None = getattr(_GROUP, "calls", None)
        if calls is None:
            launch(self.pass_on, sends, pointer, size, peer, on=stream)
        else:
            calls.append((self, sends, pointer, size, peer, stream))

    def _next(self, peer: int) -> bytes:
        while not self._heard[peer]:
            source, size = _FRAME.unpack(_read(self._socket, _FRAME.size))
            self._heard[source].append(_read(self._socket, size))
        return self._heard[peer].popleft()


class _Router:
    """Hands on the messages of a communicator's ranks, all of which are connected to it."""

    def __init__(self, server: socket.socket) -> None:
        self._server = server
        self._ranks: dict[int, socket.socket] = {}
        self._changed = threading.Condition()

    def run(self) -> None:
        """As long as the process lives."""
        while True:
            connection, _ = self._server.accept()
            rank, _ = _FRAME.unpack(_read(connection, _FRAME.size))
            with self._changed:
                self._ranks[rank] = connection
                self._changed.notify_all()
            threading.Thread(target=self._serve, args=(rank, connection), daemon=True).start()

    def _serve(self, rank: int, connection: socket.socket) -> None:
        try:
            while True:
                to, size = _FRAME.unpack(_read(connection, _FRAME.size))
                data = _read(connection, size)
                with self._changed:
                    self._changed.wait_for(lambda to=to: to in self._ranks)  # type: ignore[misc]
                    self._ranks[to].sendall(_FRAME.pack(rank, size) + data)
        except OSError:
            return


def _read(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            raise OSError("a rank has left")
        data += more
    return data
