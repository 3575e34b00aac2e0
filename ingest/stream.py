"""The socket under an MQTT connection: dialled without blocking the loop, read in large pieces, written in whole ones.

paho gets a `Stream` for its socket. It sees only the packets handed to it (everything but PUBLISH), and what it sends
and what we send go out one after the other, never half of one inside the other. Knows TLS and asyncio, not MQTT.
"""

import asyncio
import socket
import ssl

from ingest.city import Mqtt

READ_BYTES = 262_144


class Stream:
    """What paho takes for its socket. Reads whole packets in, writes whole packets out."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._control = b""  # packets for paho, and how much of them it took
        self._taken = 0
        self._out = bytearray()
        self._ended = False

    def recv(self, size: int) -> bytes:
        """Bytes of the packet handed to paho; empty at the end, as of a socket."""
        piece = self._control[self._taken : self._taken + size]
        if piece or self._ended:
            self._taken += len(piece)
            return piece
        raise BlockingIOError

    def send(self, data: bytes | bytearray) -> int:
        """Take all of it; what the socket does not take now goes when it can."""
        waiting = bool(self._out)
        self._out += data
        if not waiting:
            self._flush()
        return len(data)

    def _flush(self) -> None:
        try:
            while self._out:
                del self._out[: self._sock.send(self._out)]
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            self._loop.add_writer(self._sock.fileno(), self._flush)
            return
        except OSError:  # the reading side hears of it too and says so
            self._out.clear()
        if self._sock.fileno() >= 0:
            self._loop.remove_writer(self._sock.fileno())

    def close(self) -> None:
        """Close, with nothing left in the event loop."""
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock.fileno())
            self._loop.remove_writer(self._sock.fileno())
            self._sock.close()

    async def finish(self, last: bytes, limit: float) -> None:
        """Send a last packet and discard what comes until the other end closes.

        Closing with messages unread would reset the connection, and with it the acks not yet read over there.
        """
        ended: asyncio.Future[None] = self._loop.create_future()

        def discard() -> None:
            if self.read() is None:
                _once(ended)

        self.send(last)
        self._loop.add_reader(self._sock.fileno(), discard)
        discard()
        await asyncio.wait({ended}, timeout=limit)

    def fileno(self) -> int:
        """As of the socket; -1 once closed."""
        return self._sock.fileno()

    def setblocking(self, flag: bool) -> None:  # noqa: FBT001  (a socket's signature)
        """It never blocks."""

    def hand_to_paho(self, packet: bytes) -> None:
        """Let paho read this packet."""
        self._control, self._taken = packet, 0

    def end(self) -> None:
        """Let paho see the end."""
        self._control, self._ended = b"", True

    def read(self) -> bytes | None:
        """What the network brought: b"" for nothing yet, None for the end."""
        pieces: list[bytes] = []
        size = 0
        try:
            while size < READ_BYTES:
                piece = self._sock.recv(READ_BYTES)
                if not piece:
                    return b"".join(pieces) or None
                pieces.append(piece)
                size += len(piece)
                if not isinstance(self._sock, ssl.SSLSocket):
                    break
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        except OSError:
            return b"".join(pieces) or None
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def tls_context(mqtt: Mqtt) -> ssl.SSLContext | None:
    """Made anew for every connection, so that rotated files are taken; None for a plain connection."""
    if not (mqtt.tls if mqtt.tls is not None else mqtt.ca_file or mqtt.cert_file):
        return None
    context = ssl.create_default_context(cafile=mqtt.ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    if mqtt.cert_file is not None:
        context.load_cert_chain(mqtt.cert_file, mqtt.key_file)
    return context


async def dial(mqtt: Mqtt) -> socket.socket:
    """A connected socket, after the TLS handshake if there is one; nothing here blocks the loop."""
    loop = asyncio.get_running_loop()
    context = tls_context(mqtt)
    failure: OSError = ConnectionError("the name has no address")
    for family, kind, protocol, _, address in await loop.getaddrinfo(mqtt.host, mqtt.port, type=socket.SOCK_STREAM):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.sock_connect(sock, address)
            if context is not None:
                sock = context.wrap_socket(sock, server_hostname=mqtt.host, do_handshake_on_connect=False)
                await _handshake(sock)
        except OSError as error:
            failure = error
            sock.close()
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise failure


async def _handshake(sock: ssl.SSLSocket) -> None:
    loop = asyncio.get_running_loop()
    while True:
        ready: asyncio.Future[None] = loop.create_future()
        try:
            sock.do_handshake()
        except ssl.SSLWantReadError:
            add, remove = loop.add_reader, loop.remove_reader
        except ssl.SSLWantWriteError:
            add, remove = loop.add_writer, loop.remove_writer
        else:
            return
        add(sock.fileno(), _once, ready)
        try:
            await ready
        finally:
            remove(sock.fileno())


def _once(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)
