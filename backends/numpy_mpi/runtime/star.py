"""The supervisors' own network, beside MPI: a star over TCP around rank 0's supervisor, the hub.

Every supervisor tells the hub twice a second where its rank is. The hub prints what went wrong, once, and has all
supervisors end their ranks. It notices what no one reports: a closed connection (a supervisor was killed or its node
failed), silence (it was stopped), and a collective in which some ranks have waited for too long for others.
"""

from __future__ import annotations

import hmac
import os
import secrets
import selectors
import socket
import time
from dataclasses import dataclass, field
from typing import Any, Protocol

from .lines import Lines, Message
from .position import AFTER, Position, Reading
from .processes import kill_if_here, living_siblings, speaks_for_siblings, this_process

_BEAT = 0.2  # seconds between two reports of a rank's place
_ANSWER = 2.0  # seconds in which the hub answers, else a supervisor acts for itself
_CONNECT = 5.0  # seconds to reach one of the hub's addresses
_LOOK = 1.0  # seconds between two looks, before the supervisors know each other, for processes that have ended
_LISTEN = 0.5  # seconds in which all supervisors of a machine have noticed what one has
ADDRESS_VARIABLE = "DLC_GUARD_ADDRESS"
SIBLINGS_VARIABLE = "MPI_LOCALNRANKS"
"""Where MPICH's launcher says how many ranks it starts on this machine."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Time-outs in seconds: `start` until all ranks are there, `stall` of a collective, `silence` of a process."""

    start: float
    stall: float
    silence: float


class Star(Protocol):
    """A supervisor's place among the others. `verdict` is the exit status for all, None while the job goes on."""

    verdict: int | None

    @property
    def is_needed(self) -> bool:
        """Whether others may still look for this supervisor, though there is a verdict."""

    def tick(self, place: Reading) -> None:
        """Called a few times a second with the place of the own rank."""

    def report(self, text: str, status: int) -> None:
        """The own rank has failed; the text is printed unless another rank's was first."""

    def goodbye(self, status: int) -> None:
        """The own rank has done all its work."""


class Alone:
    """Before the supervisors know each other; who waits in MPI's start for a rank that has ended waits for ever."""

    def __init__(self, limits: Limits) -> None:
        self.verdict: int | None = None
        self._limit = limits.start
        self._began = self._looked = time.monotonic()
        self._siblings = int(os.environ.get(SIBLINGS_VARIABLE, "0"))
        self._missed = False
        self._told = 0.0

    @property
    def is_needed(self) -> bool:
        """For a moment, in which others look for the one that speaks for all."""
        return time.monotonic() - self._told < _LISTEN

    def tick(self, place: Reading) -> None:
        """Gives up when another rank must have ended before it could say so."""
        now = time.monotonic()
        if now - self._began > self._limit:
            self.report(f"error: not all ranks had started after {self._limit:g} s: another one has ended or hangs", 1)
        elif now - self._looked > _LOOK:
            self._looked = now
            missed, self._missed = self._missed, 0 < len(living_siblings()) < self._siblings
            if missed and self._missed:  # twice: the launcher has started them all
                self.another_ended()

    def another_ended(self) -> None:
        """Another rank will never come; the first of this machine's supervisors says so."""
        if self.verdict is not None:
            return
        self._told = time.monotonic()
        if speaks_for_siblings():
            show("error: another rank ended before all ranks had started")
        self.verdict = 1

    def report(self, text: str, status: int) -> None:
        """Prints it; a signal from outside goes to all ranks, so one of this machine's supervisors prints that."""
        if self.verdict is not None:
            return
        self._told = time.monotonic()
        if status < 128 or speaks_for_siblings():
            show(text)
        self.verdict = status

    def goodbye(self, status: int) -> None:
        """That was all."""
        self.verdict = status


@dataclass(slots=True)
class _Peer:
    """What the hub knows of a rank."""

    heard: float
    lines: Lines | None = None
    process: Message = field(default_factory=dict)
    place: Reading = field(default_factory=Reading)
    done: bool = False
    left: bool = False


class Hub:
    """Rank 0's supervisor, to which all others connect."""

    def __init__(
        self, ranks: int, local: bool, position: Position, limits: Limits, selector: selectors.BaseSelector
    ) -> None:
        self.verdict: int | None = None
        self.token = secrets.token_hex(16)
        self._position = position
        self._limits = limits
        self._selector = selector
        self._peers = {rank: _Peer(time.monotonic()) for rank in range(ranks)}
        self._ticked = time.monotonic()
        self._told = 0.0
        self._status = 0
        self._server = socket.create_server(("127.0.0.1" if local else "", 0), backlog=ranks)
        self._local = local
        selector.register(self._server, selectors.EVENT_READ, self._accept)

    @property
    def invitation(self) -> Message:
        """What the other supervisors need to find the hub, and to prove that they belong to the job."""
        addresses = ["127.0.0.1"] if self._local else own_addresses()
        return {"addresses": addresses, "port": self._server.getsockname()[1], "token": self.token, **this_process()}

    @property
    def is_needed(self) -> bool:
        """As long as others are connected or are still to connect: they take a hub that is gone for a failed one."""
        return not all(peer.left for rank, peer in self._peers.items() if rank)

    def tick(self, place: Reading) -> None:
        """Notices silence and stalls; lets the others hear that the hub lives."""
        now = time.monotonic()
        if now - self._ticked > 2:  # this very process was stopped: what the others said meanwhile is still to be read
            for peer in self._peers.values():
                peer.heard = now
        self._ticked = now
        self._peers[0].heard, self._peers[0].place = now, place
        if now - self._told > _BEAT:
            self._told = now
            self._tell_all({"beat": True})
        for rank, peer in self._peers.items():
            if now - peer.heard > self._limits.silence and not peer.done:
                silence = f"rank {rank} has been silent for {now - peer.heard:.0f} s"
                self.report(f"error: {silence}: it was stopped, or its node is out of reach\n{_last(peer)}", 1)
                kill_if_here(peer.process)
        stall = describe_stall({rank: peer.place for rank, peer in self._peers.items()}, self._limits.stall)
        if stall:
            self.report(stall, 1)

    def report(self, text: str, status: int) -> None:
        """Prints the first report of all, and ends the job."""
        if self.verdict is not None:
            return
        show(text)
        self.verdict = status
        self._tell_all({"stop": status})

    def goodbye(self, status: int) -> None:
        """Rank 0 is done; the job is when all are."""
        self._done(0, status)

    def place_of(self, rank: int) -> Reading:
        """Where that rank was when it was last heard of."""
        return self._peers[rank].place

    def _accept(self) -> None:
        connection, _ = self._server.accept()
        connection.settimeout(_CONNECT)
        lines = Lines(connection)
        self._selector.register(connection, selectors.EVENT_READ, lambda: self._greet(lines))

    def _greet(self, lines: Lines) -> None:
        """The first message of a connection must hold the token and the rank."""
        self._selector.unregister(lines.connection)
        try:
            first, *others = lines.receive()
            rank = int(first["rank"])
            known = hmac.compare_digest(str(first["token"]), self.token) and self._peers[rank].lines is None
        except (EOFError, ValueError, KeyError):
            known = False
        if not known:
            lines.close()
            return
        self._peers[rank].lines, self._peers[rank].process = lines, first
        self._selector.register(lines.connection, selectors.EVENT_READ, lambda: self._hear(rank, lines))
        if self.verdict is not None:
            lines.send({"stop": self.verdict})
        for message in others:
            self._take(rank, message)

    def _hear(self, rank: int, lines: Lines) -> None:
        try:
            for message in lines.receive():
                self._take(rank, message)
        except EOFError:
            self._selector.unregister(lines.connection)
            lines.close()
            peer = self._peers[rank]
            peer.lines, peer.left = None, True
            if not peer.done:
                gone = f"error: rank {rank} is gone: its processes were killed, or its node failed"
                self.report(f"{gone}\n{_last(peer)}\n{_seen(0, self._position.read())}", 1)

    def _take(self, rank: int, message: Message) -> None:
        peer = self._peers[rank]
        peer.heard = time.monotonic()
        if "place" in message:
            peer.place = Reading(*message["place"])
        if "report" in message:
            self.report(message["report"], message["status"])
        if "goodbye" in message:
            self._done(rank, message["goodbye"])

    def _done(self, rank: int, status: int) -> None:
        self._peers[rank].done = True
        self._peers[rank].place = Reading(AFTER, "done")
        self._status = max(self._status, status)
        if self.verdict is None and all(peer.done for peer in self._peers.values()):
            self.verdict = self._status
            self._tell_all({"stop": self._status})

    def _tell_all(self, message: Message) -> None:
        for peer in self._peers.values():
            if peer.lines:
                peer.lines.send(message)


class Spoke:
    """Another rank's supervisor, connected to the hub. OSError where none of the hub's addresses answers."""

    def __init__(self, rank: int, invitation: Message, limits: Limits, selector: selectors.BaseSelector) -> None:
        self.verdict: int | None = None
        self._rank = rank
        self._limits = limits
        self._selector = selector
        self._lines = Lines(connect(invitation["addresses"], invitation["port"]))
        self._hub = invitation
        self._lines.send({"rank": rank, "token": invitation["token"], **this_process()})
        self._heard = self._ticked = time.monotonic()
        self._told = 0.0
        self._reported: tuple[float, str, int] | None = None
        self._orphaned: float | None = None
        self._lost: float | None = None
        selector.register(self._lines.connection, selectors.EVENT_READ, self._hear)

    def tick(self, place: Reading) -> None:
        """Tells the hub; acts for itself where the hub is gone, silent or does not answer."""
        now = time.monotonic()
        if now - self._ticked > 2:
            self._heard = now
        self._ticked = now
        if now - self._told > _BEAT:
            self._told = now
            self._lines.send({"place": [place.step, place.what, place.waiting]})
        if self._reported and now - self._reported[0] > _ANSWER:
            self._end(*self._reported[1:])
        if self._orphaned is not None:
            self._lose_hub("is gone: its processes were killed, or its node failed", place)
        elif now - self._heard > self._limits.silence:
            silence = f"has been silent for {now - self._heard:.0f} s"
            self._lose_hub(f"{silence}: it was stopped, or its node is out of reach", place)
            kill_if_here(self._hub)

    def report(self, text: str, status: int) -> None:
        """The hub prints it and ends the job."""
        if self._reported is None:
            self._reported = (time.monotonic(), text, status)
            self._lines.send({"report": text, "status": status})

    def goodbye(self, status: int) -> None:
        """The hub says when all are done."""
        self._lines.send({"goodbye": status})

    @property
    def is_needed(self) -> bool:
        """For a moment behind the loss of the hub: the first of this machine's supervisors speaks for the others."""
        return self._lost is not None and time.monotonic() - self._lost < _LISTEN

    @property
    def is_orphaned(self) -> bool:
        """Whether the hub has closed the connection."""
        return self._orphaned is not None

    def close(self) -> None:
        """Leaves the star."""
        self._selector.unregister(self._lines.connection)
        self._lines.close()

    def _hear(self) -> None:
        try:
            for message in self._lines.receive():
                self._heard = time.monotonic()
                if "stop" in message:
                    self.verdict = message["stop"]
        except EOFError:
            self._selector.unregister(self._lines.connection)
            self._orphaned = time.monotonic()

    def _lose_hub(self, how: str, place: Reading) -> None:
        if self.verdict is not None:
            return
        self._lost = time.monotonic()
        if speaks_for_siblings(int(self._hub["process"])):
            show(f"error: rank 0 {how}\n{_seen(self._rank, place)}")
        self.verdict = 1

    def _end(self, text: str, status: int) -> None:
        if self.verdict is None:
            show(text)
            self.verdict = status


def describe_stall(places: dict[int, Reading], limit: float) -> str:
    """What to say where a rank has waited for `limit` seconds: in what, and who is missing; "" if none has."""
    rank, longest = max(places.items(), key=lambda entry: entry[1].waiting)
    if longest.waiting < limit:
        return ""
    missing = {
        other: place
        for other, place in places.items()
        if not place.waiting or (place.step, place.what) != (longest.step, longest.what)
    }
    lines = [f"error: rank {rank} has waited for {longest.waiting:.0f} s: {longest}"]
    lines += [f"  = note: rank {other} is missing: {place}" for other, place in list(missing.items())[:16]]
    lines += [f"  = note: {len(missing) - 16} more ranks are missing"] if len(missing) > 16 else []
    lines += [] if missing else ["  = note: all ranks are in it: they disagree about its size, or the network fails"]
    lines += ["  = help: `--stall-seconds` or DLC_STALL_SECONDS sets the time-out, if a step may take that long"]
    return "\n".join(lines)


def own_addresses() -> list[str]:
    """Where other nodes may reach this one: the environment's word, else the host's name and its addresses."""
    if ADDRESS_VARIABLE in os.environ:
        return [os.environ[ADDRESS_VARIABLE]]
    name = socket.gethostname()
    try:
        found: list[Any] = [entry[4][0] for entry in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)]
    except OSError:
        found = []
    return list(dict.fromkeys([*(a for a in map(str, found) if not a.startswith("127.") and a != "::1"), name]))


def connect(addresses: list[str], port: int) -> socket.socket:
    """A connection to the first address that answers; OSError where none does."""
    failure: OSError = OSError("the hub has no address")
    for address in addresses:
        try:
            return socket.create_connection((address, port), timeout=_CONNECT)
        except OSError as cause:
            failure = cause
    raise failure


def show(text: str) -> None:
    """Writes to the standard error in one piece, so that ranks do not interleave."""
    os.write(2, text.encode(errors="replace") + b"\n")


def _last(peer: _Peer) -> str:
    return f"  = note: it was last heard of {time.monotonic() - peer.heard:.1f} s ago, {peer.place}"


def _seen(rank: int, place: Reading) -> str:
    return f"  = note: rank {rank} is {place}"
