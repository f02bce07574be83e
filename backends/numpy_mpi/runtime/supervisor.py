"""A rank and its supervisor: two processes, so that one can say how the other ended.

The process that mpiexec starts forks before MPI does anything. The child is the rank: it alone uses MPI. The parent
stays what mpiexec sees, sleeps, reads the rank's position in shared memory, and notices its end or its stopping from
the operating system, with the exact cause. So a rank that is killed or leaves by `os._exit(0)` becomes a message and a
status other than 0, where mpiexec would end the job in silence or hang.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from .failures import ProgramError
from .lines import Lines, Message
from .position import AFTER, Position, Reading
from .processes import end_with_parent, unlink_shared_memory
from .requests import Requests
from .star import Alone, Hub, Limits, Spoke, Star, show

COMPLETION_VARIABLE = "DLC_COMPLETION_DIR"

_TICK = 0.1  # seconds between two looks at the rank
_TICK_AT_END = 0.005  # its end of the channel is closed: it is about to end
_LEAVE = 2.0  # the longest that a supervisor stays for the others when the job is over
_ANOTHER_ENDED = signal.SIGUSR1  # what MPICH's mpiexec sends where it is told not to clean up by itself
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, _ANOTHER_ENDED)


class Supervision:
    """The rank's end of the conversation with its supervisor."""

    def __init__(self, channel: Lines, position: Position) -> None:
        self._channel = channel
        self.position = position
        self.parent = os.getppid()

    def join(self, world: Any) -> None:
        """Connects the supervisors of all ranks; every rank must call it. ProgramError where one cannot be reached."""
        invitation: Message | None = None
        if world.rank == 0:
            invitation = self._ask({"host": world.size, "local": world.on_one_node})
        invitation = world.bcast(invitation)
        if world.rank:
            answer = self._ask({"join": world.rank, "invitation": invitation})
            if answer["failure"]:
                raise ProgramError(
                    f"rank {world.rank} cannot reach rank 0's supervisor: {answer['failure']}",
                    notes=(f"tried {', '.join(invitation['addresses'])}",) if invitation else (),
                    help="DLC_GUARD_ADDRESS names an address of rank 0's node that all nodes can reach",
                )
        world.barrier("the meeting of the supervisors")

    def failed(self, text: str, status: int) -> NoReturn:
        """The rank cannot go on: the supervisor prints the text, if it is the job's first, and ends all ranks."""
        self._channel.send({"failed": text, "status": status})
        time.sleep(10)  # it kills this process long before
        os._exit(status or 1)

    def done(self, rank: int, status: int) -> None:
        """The rank has done all its work and may exit."""
        self._channel.send({"done": status, "rank": rank})

    def _ask(self, message: Message) -> Message:
        self._channel.send(message)
        (answer,) = self._channel.receive()
        return answer


def supervise(limits: Limits) -> Supervision:
    """Forks; returns in the child. The parent never returns: it exits with the status of the job."""
    position = Position.shared()
    ours, theirs = socket.socketpair()
    sys.stdout.flush()
    sys.stderr.flush()
    # The handlers stand before the fork, so that no signal finds neither.
    wakeup = _Signals()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # "multi-threaded": BLAS threads, which survive forks
        supervisor, child = os.getpid(), os.fork()
    if child == 0:
        end_with_parent(supervisor)
        wakeup.restore()
        ours.close()
        return Supervision(Lines(theirs), position)
    theirs.close()
    status = 1
    try:
        status = Supervisor(child, Lines(ours), position, limits, wakeup).run()
    except Exception:
        show(traceback.format_exc())
    finally:
        os._exit(status)


class _Signals:
    """Turns signals into a readable socket."""

    def __init__(self) -> None:
        self.reader, self._writer = socket.socketpair()
        self.reader.setblocking(False)
        self._writer.setblocking(False)
        self._descriptor = signal.set_wakeup_fd(self._writer.fileno())
        for number in _SIGNALS:
            signal.signal(number, lambda *_: None)

    def restore(self) -> None:
        """The default actions again, for the rank."""
        signal.set_wakeup_fd(self._descriptor)
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN if number == _ANOTHER_ENDED else signal.SIG_DFL)
        self.reader.close()
        self._writer.close()


class Supervisor:
    """The parent's side: one loop over the rank's channel, the star and the signals."""

    def __init__(self, child: int, channel: Lines, position: Position, limits: Limits, signals: _Signals) -> None:
        self._child = child
        self._channel = channel
        self._position = position
        self._requests = Requests(position)
        self._limits = limits
        self._signals = signals
        self._selector = selectors.DefaultSelector()
        self._selector.register(channel.connection, selectors.EVENT_READ, self._hear)
        self._selector.register(signals.reader, selectors.EVENT_READ, self._interrupted)
        self._star: Star = Alone(limits)
        self._rank: int | None = None
        self._done: int | None = None
        self._failed = False
        self._ended = False
        self._stopped: float | None = None
        self._tick = _TICK
        self._launcher = os.getppid()

    def run(self) -> int:
        """Watches until the job is over; the exit status."""
        while self._star.verdict is None:
            for key, _ in self._selector.select(self._tick):
                act: Callable[[], None] = key.data
                act()
            self._watch()
            self._star.tick(self._place())
            if os.getppid() != self._launcher:
                self._report("lost the launcher that had started it")
        status = self._star.verdict
        if not self._ended:
            unlink_shared_memory(self._child)
            os.kill(self._child, signal.SIGKILL)
            os.waitpid(self._child, 0)
        self._take_leave()
        if status == 0 and self._rank is not None:
            write_completion(self._rank)
        return status

    def _take_leave(self) -> None:
        """Stay for the other supervisors as long as they need this one, but not much longer than they need to end."""
        deadline = time.monotonic() + _LEAVE
        while self._star.is_needed and time.monotonic() < deadline:
            for key, _ in self._selector.select(_TICK):
                act: Callable[[], None] = key.data
                act()

    def _hear(self) -> None:
        """Messages of the rank."""
        try:
            for message in self._channel.receive():
                self._take(message)
        except EOFError:
            self._selector.unregister(self._channel.connection)
            self._tick = _TICK_AT_END

    def _take(self, message: Message) -> None:
        if "host" in message:
            self._rank = 0
            hub = Hub(message["host"], message["local"], self._position, self._limits, self._selector)
            self._star = hub
            self._channel.send(hub.invitation)
        elif "join" in message:
            self._rank = message["join"]
            failure = ""
            try:
                self._star = Spoke(message["join"], message["invitation"], self._limits, self._selector)
            except OSError as cause:
                failure = str(cause)
            self._channel.send({"failure": failure})
        elif "failed" in message:
            self._failed = True
            self._star.report(message["failed"], message["status"])
        elif "done" in message:
            self._rank = message["rank"]
            self._done = message["done"]

    def _watch(self) -> None:
        """Asks the system how the rank is."""
        if self._ended:
            return
        changed, state = os.waitpid(self._child, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
        if not changed:
            if self._stopped is not None and time.monotonic() - self._stopped > self._limits.silence:
                self._report(f"was stopped by a signal and has not gone on for {self._limits.silence:g} s")
        elif os.WIFSTOPPED(state):
            self._stopped = time.monotonic()
        elif os.WIFCONTINUED(state):
            self._stopped = None
        else:
            self._ended = True
            self._child_ended(os.waitstatus_to_exitcode(state))

    def _child_ended(self, code: int) -> None:
        if self._done is not None and code == self._done:
            self._star.goodbye(code)
        elif not self._failed:
            self._report(describe_exit(code), status=128 - code if code in (-signal.SIGINT, -signal.SIGTERM) else 1)

    def _interrupted(self) -> None:
        for number in self._signals.reader.recv(16):
            if number == _ANOTHER_ENDED:
                self._another_ended()
            elif number in _SIGNALS and not (number == signal.SIGTERM and self._requests.end()):
                self._report(f"was ended by {signal.Signals(number).name}", status=128 + number)

    def _another_ended(self) -> None:
        """Once the supervisors know each other they need no hint; before that no one else would end this rank.

        So from then on it can only be the user, who wants a checkpoint.
        """
        if isinstance(self._star, Alone) and self._done is None:
            self._star.another_ended()
        else:
            self._requests.checkpoint()

    def _report(self, what: str, status: int = 1) -> None:
        name = "a rank" if self._rank is None else f"rank {self._rank}"
        self._star.report(f"error: {name} {what}\n  = note: {self._place()}", status)

    def _place(self) -> Reading:
        return Reading(AFTER, "done") if self._done is not None and self._ended else self._position.read()


def describe_exit(code: int) -> str:
    """How a process ended before its work was done; negative codes are signals."""
    if code < 0:
        return f"was killed by signal {-code} ({signal.Signals(-code).name})"
    return f"ended with exit status {code} before the program was done"


def write_completion(rank: int) -> None:
    """Leaves the record that this rank has done all its work, where the starter asked for one."""
    folder = os.environ.get(COMPLETION_VARIABLE)
    if folder:
        Path(folder, f"rank-{rank:05d}.json").write_text(json.dumps({"rank": rank, "status": 0}) + "\n")
