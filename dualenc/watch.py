"""Ends this process, with one line that says why, once another process of the same training is gone.

A collective waits for all processes: with NCCL a dead one is missed only after `trainer.timeout`, and nobody says which
it was. Here a thread looks out, whatever the main thread waits for and on whatever device; it needs no torch.
"""

import json
import os
import secrets
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any

from dualenc.errors import EXIT_LOST, exit_code, one_line

_GRACE_SECONDS = 2.0  # for a process that is about to say the same itself: all of them see a loss that is not finite
_VERDICT_SECONDS = 5.0  # for the news that a collective failed because a process died
_POLL_SECONDS = 0.2
_KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4}  # a machine that vanishes is missed after 30 s
_LONGEST = 2**16  # bytes of a message


@dataclass(frozen=True)
class Member:
    """One process of a training."""

    rank: int
    host: str
    pid: int

    def __str__(self) -> str:
        return f"process {self.rank} (host {self.host}, pid {self.pid})"


class Watch:
    """Keeps an eye on the other processes of a training: `with Watch(rank) as watch: ...`.

    From `connect` on, every process holds a TCP connection to process 0 that stays silent until one of its ends leaves.
    A process that dies takes its connection with it, at once and however it dies, and process 0 tells the others.
    Until then, processes that one of them has started look at their parent, and that at them. A process that fails
    says so before it goes; the others then end with its message and its exit code. Alone, all this does nothing.
    """

    def __init__(self, rank: int) -> None:
        self.me = Member(rank, socket.gethostname(), os.getpid())
        self._connected = False
        self._peers: dict[socket.socket, Member] = {}
        self._leaving = threading.Event()  # from here on this process goes for a reason of its own
        self._ending = threading.Lock()

    def __enter__(self) -> "Watch":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Says good-bye. A RuntimeError, which failed collectives raise, waits for a death that may be its cause."""
        if isinstance(error, RuntimeError) and self._connected:
            time.sleep(_VERDICT_SECONDS)
        self.leave(error)

    def leave(self, error: BaseException | None = None) -> None:
        """From here on the others may end without this process, and it without them; they end now if it failed."""
        self._leaving.set()
        why = (one_line(error) or type(error).__name__) if error else ""
        self._tell(self.me, exit_code(error), why)

    def children(self, started: Sequence[subprocess.Popen]) -> None:
        """Ends this process where one of those it has started ends without having said good-bye."""

        def look() -> None:
            while not self._leaving.is_set():
                for rank, child in enumerate(started, self.me.rank + 1):
                    if code := child.poll():
                        died = code < 0  # by a signal
                        self._end(Member(rank, self.me.host, child.pid), None if died else code, f"exit code {code}")
                time.sleep(_POLL_SECONDS)

        threading.Thread(target=look, daemon=True).start()

    def parent(self, pid: int, rank: int | None = None) -> None:
        """Looks at the process `pid` that has started this one: process `rank` of the training, without which this one
        ends, or a mere launcher (None), without which it is asked to save and leave."""

        def look() -> None:
            while os.getppid() == pid:
                time.sleep(_POLL_SECONDS)
            if rank is None:
                os.kill(self.me.pid, signal.SIGTERM)
            else:
                self._end(Member(rank, self.me.host, pid))

        threading.Thread(target=look, daemon=True).start()

    def connect(self, world: int, *, address: str, broadcast: Callable[[Any], Any]) -> None:
        """Connects to process 0, whose host has `address`; all processes call this together.

        broadcast: gives every process what process 0 gives it.
        """
        if self.me.rank == 0:
            local = address in ("localhost", "127.0.0.1")
            server = socket.create_server(("127.0.0.1" if local else "", 0), backlog=world)
            key = secrets.token_hex(16)
            broadcast((server.getsockname()[1], key, asdict(self.me)))
            threading.Thread(target=self._serve, args=(server, key), daemon=True).start()
        else:
            port, key, first = broadcast(None)
            connection = socket.create_connection((address, port), timeout=60)
            self._peers[_kept_alive(connection)] = Member(**first)
            _send(connection, {"key": key, **asdict(self.me)})
            threading.Thread(target=self._listen, args=(connection,), daemon=True).start()
        self._connected = True
        # Or a loader worker would keep the connection of its dead parent.
        os.register_at_fork(after_in_child=self._close)

    def _serve(self, server: socket.socket, key: str) -> None:
        """Process 0: lets the others in, and hears from them."""
        selector = selectors.DefaultSelector()
        selector.register(server, selectors.EVENT_READ)
        while True:
            for event, _ in selector.select():
                connection = event.fileobj
                assert isinstance(connection, socket.socket)
                if connection is server:
                    connection, _ = server.accept()
                    connection.settimeout(_VERDICT_SECONDS)
                    hello = _receive(connection) or {}
                    if hello.pop("key", None) == key:  # else a stranger
                        self._peers[_kept_alive(connection)] = Member(**hello)
                        selector.register(connection, selectors.EVENT_READ)
                else:
                    selector.unregister(connection)
                    self._heard(self._peers.pop(connection), _receive(connection))

    def _listen(self, connection: socket.socket) -> None:
        """The others: hears from process 0, about itself or a third."""
        self._heard(self._peers[connection], _receive(connection))

    def _heard(self, sender: Member, message: dict[str, Any] | None) -> None:
        if message is None:
            self._end(sender)
        elif message["code"] != 0:
            self._end(Member(**message["who"]), message["code"], message["why"])

    def _end(self, member: Member, code: int | None = None, why: str = "") -> None:
        """Ends this process, as `member` has died (code None) or failed, unless it leaves for a reason of its own."""
        self._tell(member, code, why)
        if code is not None:
            time.sleep(_GRACE_SECONDS)
        with self._ending:
            if self._leaving.is_set():
                return
            text = f"ended: {why}"
            if code is None:
                text = "died; run the same command again, which continues from the newest checkpoint"
            cursor = "\x1b[?25h" if sys.stderr.isatty() else ""  # a progress bar has hidden it
            print(f"{cursor}error: {member} {text}", file=sys.stderr, flush=True)
            os._exit(EXIT_LOST if code is None else code)

    def _tell(self, member: Member, code: int | None, why: str) -> None:
        for connection in list(self._peers):
            _send(connection, {"who": asdict(member), "code": code, "why": why})

    def _close(self) -> None:
        for connection in self._peers:
            connection.close()


def _kept_alive(connection: socket.socket) -> socket.socket:
    """`connection` without a time limit, and such that the other machine is asked now and then whether it is there."""
    connection.settimeout(None)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return connection


def _send(connection: socket.socket, message: dict[str, Any]) -> None:
    with suppress(OSError):  # who is gone needs no message
        connection.sendall(json.dumps(message).encode() + b"\n")


def _receive(connection: socket.socket) -> dict[str, Any] | None:
    """The next message; None where the other end is gone. Byte by byte, as a second one may follow at its heels."""
    line = b""
    with suppress(OSError, ValueError):
        while len(line) < _LONGEST and (byte := connection.recv(1)):
            if byte == b"\n":
                message = json.loads(line)
                return message if isinstance(message, dict) else None
            line += byte
    return None
