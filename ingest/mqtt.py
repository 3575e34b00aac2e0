"""One MQTT connection: paho for the protocol, asyncio for the waiting, and PUBLISH packets taken past paho.

The only module that knows paho. A `Connection` is one epoch: opened once, lost once, never reused, so nothing of an
earlier connection can reach a later one. PUBLISHes are taken out of the stream by packets.py; paho gets the rest
(CONNACK, SUBACK, PINGRESP, …) through stream.py. What to do after a loss is the gateway's decision.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from ingest import packets
from ingest.city import City, Mqtt
from ingest.packets import Delivery
from ingest.stream import Stream, dial

CONNECT_SECONDS = 10.0
GOODBYE_SECONDS = 0.5
REFUSED_LOGIN = frozenset({"Bad user name or password", "Not authorized", "Client identifier not valid"})
GRANTED_QOS = 1
BUSY = 50.0  # messages a second from which on reads are further apart
STRETCH = 8.0  # times as far, at most

Accepted = Callable[["Connection", bool], None]
Receive = Callable[[list[Delivery]], None]


class LoginRefusedError(ConnectionError):
    """The broker answered and does not want us; only another login helps."""


class _Client(Client):
    """paho with a socket that is already connected. The one private name of paho that is touched is here."""

    def __init__(self, stream: Stream, client_id: str, *, clean_session: bool) -> None:
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=clean_session,
            protocol=MQTTv311,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        self._stream = stream

    def _create_socket(self) -> Stream:
        return self._stream


class Connection:
    """One connection to a city's broker under its persistent session.

    `accepted(self, present)` is called once, when the broker took the login, before anything is received: it says
    whether the broker had our session. `receive` gets each read's messages, in order. Neither may block. `lost` is done
    once, with the reason, when the connection is gone; with an exception if a bug ended it. While messages come the
    socket is read every `pace` seconds, or further apart (`interval`), so that one wake-up serves many. A connection
    that is `passing` (check, watch) leaves the gateway's session alone: it has a client id of its own, ending in that
    word, and no session.
    """

    def __init__(
        self, city: City, accepted: Accepted, receive: Receive, *, pace: float = 0.0, passing: str = ""
    ) -> None:
        self._city = city
        self._pace = pace
        self._passing = passing
        self._accepted = accepted
        self._receive = receive
        self._loop = asyncio.get_running_loop()
        self.lost: asyncio.Future[tuple[str, str]] = self._loop.create_future()
        self._connack: asyncio.Future[bool] = self._loop.create_future()
        self._subacks: dict[int, asyncio.Future[list[int]]] = {}
        self._pieces: list[bytes] = []  # of packets not all there yet
        self._held = 0
        self._wanted = 2
        self._paused = False
        self._timer: asyncio.TimerHandle | None = None
        self._polled = 0.0  # when the socket was read
        self._received = 0  # messages of that read
        self._ticker: asyncio.TimerHandle | None = None
        self._stream: Stream
        self._client: _Client

    async def open(self) -> bool:
        """Connect and log in; return whether the broker had our session.

        Raises LoginRefusedError, and OSError with one line for everything else that is in the way.
        """
        mqtt = self._city.mqtt
        place = f"{mqtt.host}:{mqtt.port}"
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                self._stream = Stream(await dial(mqtt))
                self._start(mqtt)
                return await self._connack
        except TimeoutError:
            self._fail("lost", "timed out")
            raise ConnectionError(f"MQTT broker {place}: no answer within {CONNECT_SECONDS:.0f} s") from None
        except LoginRefusedError as refused:
            raise LoginRefusedError(f"MQTT broker {place} refuses the login: {refused}") from None
        except OSError as error:
            raise ConnectionError(f"MQTT broker {place}: {error.strerror or error}") from error

    def _start(self, mqtt: Mqtt) -> None:
        client = self._client = _Client(
            self._stream,
            f"{self._city.client_id}-{self._passing}" if self._passing else self._city.client_id,
            clean_session=bool(self._passing),
        )
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_suback
        client.on_unsubscribe = self._on_suback
        if mqtt.username is not None:
            client.username_pw_set(mqtt.username, _password(mqtt))
        client.connect(mqtt.host, mqtt.port, keepalive=int(mqtt.keepalive.total_seconds()))
        self._loop.add_reader(self._stream.fileno(), self._wake)
        self._tick()

    async def subscribe(self, filters: tuple[str, ...], qos: int = GRANTED_QOS) -> None:
        """Subscribe and wait for the broker's word. Raises ConnectionError naming what it refused."""
        granted = await self._asked(self._client.subscribe([(text, qos) for text in filters]))
        refused = [text for text, code in zip(filters, granted, strict=True) if code != qos]
        if refused:
            raise ConnectionError(f"MQTT broker refuses to subscribe to {', '.join(refused)}")

    async def unsubscribe(self, filters: tuple[str, ...]) -> None:
        """Unsubscribe and wait for the broker's word."""
        await self._asked(self._client.unsubscribe(list(filters)))

    async def _asked(self, sent: tuple[MQTTErrorCode, int | None]) -> list[int]:
        code, mid = sent
        if code != MQTTErrorCode.MQTT_ERR_SUCCESS or mid is None:
            raise ConnectionError("the MQTT connection is gone")
        answer: asyncio.Future[list[int]] = self._loop.create_future()
        self._subacks[mid] = answer
        either: set[asyncio.Future[Any]] = {answer, self.lost}
        await asyncio.wait(either, timeout=CONNECT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        del self._subacks[mid]
        if not answer.done():
            why = self.lost.result()[1] if self.lost.done() else "the broker did not answer"
            raise ConnectionError(f"MQTT broker {self._city.mqtt.host}, subscribing: {why}")
        return answer.result()

    def acknowledge(self, acks: bytes) -> None:
        """Send acks of deliveries that came by this connection, in their order, in one go."""
        if not self.lost.done():
            self._stream.send(acks)

    def pause(self) -> None:
        """Stop reading; TCP then stops the broker. Pings go on being sent, but their answers are not read."""
        if not self._paused and not self.lost.done():
            self._paused = True
            self._loop.remove_reader(self._stream.fileno())
            self._cancel_timer()

    def resume(self) -> None:
        """Read again."""
        if self._paused and not self.lost.done():
            self._paused = False
            self._timer = self._loop.call_later(0, self._poll)

    async def close(self) -> None:
        """Say goodbye, after the acks; the broker keeps the session."""
        if not self.lost.done():
            self.pause()
            await self._stream.finish(packets.DISCONNECT, GOODBYE_SECONDS)
            self._fail("closed", "closed by the gateway")

    def abort(self, reason: str, detail: str) -> None:
        """Cut the connection; the broker sends again what was not acknowledged."""
        self._fail(reason, detail)

    # Reading: woken by the socket once, then by a timer while messages come.

    def _wake(self) -> None:
        self._loop.remove_reader(self._stream.fileno())
        self._poll()

    def _poll(self) -> None:
        self._timer = None
        began, self._polled = self._polled, self._loop.time()
        before, self._received = self._received, 0
        try:
            more = self._read()
        except packets.MalformedError as error:
            self._fail("malformed", f"the broker sent no MQTT: {error}")
        except Exception as bug:  # noqa: BLE001  (a callback's exception would only be logged; a bug must crash)
            self._stop()
            if not self.lost.done():
                self.lost.set_exception(bug)
        else:
            if self._paused or self.lost.done():
                return
            if more:
                wait = interval(self._pace, self._received, before, self._polled - began)
                self._timer = self._loop.call_later(wait, self._poll)
            else:
                self._loop.add_reader(self._stream.fileno(), self._wake)

    def _read(self) -> bool:
        data = self._stream.read()
        if data is None:
            self._stream.end()
            self._client.loop_read()  # paho sees the end and says so
            self._fail("lost", "closed by the broker")
            return False
        if not data:
            return False
        self._pieces.append(data)
        self._held += len(data)
        if self._held >= self._wanted:
            self._packets()
        return True

    def _packets(self) -> None:
        """Everything that is all there: messages to us, a run at a time, the rest to paho, in the stream's order."""
        stream = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        now = time.time_ns() // 1_000_000
        at, end = 0, len(stream)
        wanted = 2
        while at < end and not self.lost.done():
            run: list[Delivery] = []
            at = packets.take_publishes(stream, at, now, run)
            if run:
                self._received += len(run)
                self._receive(run)
            stop = packets.packet_end(stream, at) if at < end else at
            if stop < 0 or stop > end:
                wanted = stop - at if stop > 0 else end - at + 1
                break
            if at < stop:
                self._control(stream[at:stop])
                at = stop
        rest = stream[at:]
        self._pieces = [rest] if rest else []
        self._held = len(rest)
        self._wanted = wanted

    def _control(self, packet: bytes) -> None:
        if packet[0] == packets.PUBREL:  # the second half of a QoS 2 message, which was kept before PUBREC
            self._stream.send(packets.PUBCOMP_OF + packet[2:4])
            return
        self._stream.hand_to_paho(packet)
        self._client.loop_read()
        if self._client.want_write():
            self._client.loop_write()

    def _tick(self) -> None:
        """Housekeeping of paho: pings, and giving up on a broker that does not answer them."""
        self._ticker = self._loop.call_later(1.0, self._tick)
        self._client.loop_misc()

    # What paho tells.

    def _on_connect(self, _c: Client, _u: Any, flags: ConnectFlags, reason: ReasonCode, _p: Properties | None) -> None:
        if self._connack.done():
            return
        if not reason.is_failure:
            self._accepted(self, flags.session_present)
            self._connack.set_result(flags.session_present)
        elif reason.getName() in REFUSED_LOGIN:
            self._connack.set_exception(LoginRefusedError(reason.getName()))
        else:
            self._connack.set_exception(ConnectionError(reason.getName()))

    def _on_disconnect(
        self, _c: Client, _u: Any, _flags: DisconnectFlags, reason: ReasonCode, _p: Properties | None
    ) -> None:
        name = reason.getName()
        if name == "Keep alive timeout":
            self._fail("keepalive", "no answer to a ping")
        else:
            self._fail("lost", f"closed by the broker ({name})")

    def _on_suback(self, _c: Client, _u: Any, mid: int, codes: list[ReasonCode], _p: Properties | None) -> None:
        answer = self._subacks.get(mid)
        if answer is not None and not answer.done():
            answer.set_result([code.value for code in codes])

    # The end, once, whoever says so first.

    def _fail(self, reason: str, detail: str) -> None:
        self._stop()
        if not self.lost.done():
            self.lost.set_result((reason, detail))
        if not self._connack.done():
            self._connack.set_exception(
                ConnectionError(
                    "closed the connection before it answered the login (TLS: a refused client certificate looks so)"
                )
            )
            self._connack.exception()  # it may be that nobody waits any more

    def _stop(self) -> None:
        self._cancel_timer()
        if self._ticker is not None:
            self._ticker.cancel()
        stream = getattr(self, "_stream", None)
        if stream is not None:
            stream.close()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def interval(pace: float, messages: int, before: int, seconds: float) -> float:
    """Seconds until the next read, after one that brought so many messages of so many seconds: 1 to STRETCH paces.

    What a read costs whatever it brings, the writes to Kafka above all, is more than a message costs. A busy city's
    reads are further apart, so that they bring more. A read that brings as many as the one before may be all that the
    broker sends before it has acks (max_inflight_messages): then nothing is gained by waiting.
    """
    if messages == before:
        return pace
    return pace * min(max(messages / max(seconds, 0.001) / BUSY, 1.0), STRETCH)


def _password(mqtt: Mqtt) -> str | None:
    """Read at every connect, so that a rotated one is taken without a restart."""
    return None if mqtt.password_file is None else mqtt.password_file.read_text(encoding="utf-8").rstrip("\r\n")
