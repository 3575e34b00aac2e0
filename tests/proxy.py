"""A TCP proxy that behaves like a bad network: it cuts, stalls, swallows or refuses, when the test says so.

It runs in threads of its own, so that it works beside any event loop and goes on while the test blocks.
"""

import contextlib
import socket
import struct
import threading

CHUNK = 65_536
RESET = struct.pack("ii", 1, 0)  # linger 0: close sends RST instead of FIN


class Proxy:
    """Forwards 127.0.0.1:`port` to 127.0.0.1:`target`."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.connections = 0
        self._flowing = threading.Event()
        self._flowing.set()
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._listener: socket.socket | None = None
        self.port = 0
        self.accept()

    def accept(self) -> None:
        """Listen (again) on the same port."""
        if self._listener is None:
            self._listener = socket.create_server(("127.0.0.1", self.port))
            self.port = self._listener.getsockname()[1]
            self._spawn(self._serve, self._listener)

    def refuse(self) -> None:
        """Refuse new connections; those that exist live on until `cut`."""
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread in accept()
            self._listener.close()
            self._listener = None

    def cut(self, *, reset: bool = True) -> None:
        """End every connection on both sides, by RST or by FIN; bytes under way are lost."""
        with self._lock:
            pairs, self._pairs = self._pairs, set()
        for pair in pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    if reset:
                        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                    end.shutdown(socket.SHUT_RDWR)
                end.close()
        self._flowing.set()

    def stall(self) -> None:
        """Pass nothing on, close nothing: a half-open host."""
        self._flowing.clear()

    def resume(self) -> None:
        """Pass on again what was held."""
        self._flowing.set()

    def close(self) -> None:
        """End everything."""
        self.refuse()
        self._flowing.set()
        self.cut()
        for thread in self._threads:
            thread.join(5)

    def _spawn(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self.target), timeout=10)
            except OSError:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                client.close()
                continue
            server.settimeout(None)
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._pairs.add((client, server))
                self.connections += 1
            self._spawn(self._pump, client, server, (client, server))
            self._spawn(self._pump, server, client, (client, server))

    def _pump(self, source: socket.socket, sink: socket.socket, pair: tuple[socket.socket, socket.socket]) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK):
                self._flowing.wait()
                sink.sendall(data)
        with self._lock:
            mine = pair in self._pairs
            self._pairs.discard(pair)
        if mine:  # one side ended by itself: the other one ends too
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()
