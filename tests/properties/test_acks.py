"""PUBACK means kept: the ack tracker against a broker and a Kafka that do whatever the protocols allow."""

from collections import deque

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ingest.acks import AckTracker

WINDOW = 5  # packet ids of the model's broker: few, so that they are reused at once
LANES = 3


class Acknowledging(RuleBasedStateMachine):
    """A broker with a session, a gateway with the real tracker, and Kafka as one queue a partition."""

    def __init__(self) -> None:
        super().__init__()
        self.published = 0
        self.queued: deque[int] = deque()  # messages the broker has not sent yet
        self.inflight: dict[int, int] = {}  # packet id -> message, in the order sent
        self.order: list[int] = []
        self.kafka: set[int] = set()
        self.forgotten: set[int] = set()  # by the broker: acknowledged
        self.connect()

    def connect(self) -> None:
        self.tracker = AckTracker()
        self.lanes: list[list[tuple[int, int]]] = [[] for _ in range(LANES)]

    def hand_over(self, mid: int, message: int, lane: int) -> None:
        number = self.tracker.receive([bytes((mid,))])
        self.lanes[lane].append((number, message))
        self.order.append(mid)

    def acknowledged(self, acks: bytes) -> None:
        for mid in acks:
            assert mid == self.order.pop(0), "acks leave the order of receipt"
            message = self.inflight.pop(mid)
            assert message in self.kafka, "acknowledged, but not in Kafka"
            self.forgotten.add(message)

    @rule()
    def publish(self) -> None:
        self.queued.append(self.published)
        self.published += 1

    @precondition(lambda self: self.queued and len(self.inflight) < WINDOW)
    @rule(lane=st.integers(0, LANES - 1))
    def deliver(self, lane: int) -> None:
        mid = min(set(range(WINDOW)) - set(self.inflight))
        self.inflight[mid] = self.queued.popleft()
        self.hand_over(mid, self.inflight[mid], lane)

    @rule(lane=st.integers(0, LANES - 1))
    def deliver_at_qos_0(self, lane: int) -> None:
        number = self.tracker.receive([b""])
        self.lanes[lane].append((number, -1))

    @precondition(lambda self: any(self.lanes))
    @rule(data=st.data())
    def kafka_keeps_a_batch(self, data: st.DataObject) -> None:
        lane = data.draw(st.sampled_from([lane for lane in self.lanes if lane]))
        count = data.draw(st.integers(1, len(lane)))
        batch, lane[:] = lane[:count], lane[count:]
        self.kafka |= {message for _, message in batch}
        self.acknowledged(self.tracker.complete([number for number, _ in batch]))

    @rule(data=st.data(), forget=st.booleans())
    def reconnect(self, data: st.DataObject, forget: bool) -> None:
        """The session is present: what was not acknowledged comes again, under packet ids that were used before."""
        if forget:
            for lane in self.lanes:
                lane[:] = [(number, message) for number, message in lane if not self.tracker.comes_again(number)]
        self.tracker.new_epoch()
        again = list(self.inflight.values())
        self.inflight.clear()
        self.order.clear()
        mids = data.draw(st.permutations(range(WINDOW)))
        for mid, message in zip(mids, again, strict=False):
            self.inflight[mid] = message
            self.hand_over(mid, message, data.draw(st.integers(0, LANES - 1)))

    @rule(data=st.data())
    def crash(self, data: st.DataObject) -> None:
        """The gateway is killed: its memory is gone; a batch under way may or may not have reached Kafka."""
        for lane in self.lanes:
            count = data.draw(st.integers(0, len(lane)))
            self.kafka |= {message for _, message in lane[:count]}
        self.connect()
        again = list(self.inflight.values())
        self.inflight.clear()
        self.order.clear()
        for mid, message in enumerate(again):
            self.inflight[mid] = message
            self.hand_over(mid, message, 0)

    @invariant()
    def what_the_broker_forgot_is_in_kafka(self) -> None:
        assert self.forgotten <= self.kafka

    def teardown(self) -> None:
        """Once everything is kept, everything is acknowledged: no ack is held back for ever."""
        for lane in self.lanes:
            batch, lane[:] = list(lane), []
            self.kafka |= {message for _, message in batch}
            self.acknowledged(self.tracker.complete([number for number, _ in batch]))
        assert not self.inflight
        assert len(self.tracker) == 0


TestAcknowledging = Acknowledging.TestCase
TestAcknowledging.settings = settings(max_examples=150, stateful_step_count=40)
