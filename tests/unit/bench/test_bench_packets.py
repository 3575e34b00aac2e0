"""What the load generator would put on the wire, read back byte by byte."""

import json
from datetime import UTC, datetime

import pytest

from tests.bench.packets import MIDS, Fleet, Place, connect, iso, publish, remaining_length
from tests.bench.workloads import PROPERTIES, WORKLOADS, fleet, share

NOW = 1_795_500_000_123_456


def unpack(packet: bytes) -> tuple[str, int, bytes]:
    """Topic, packet id and payload of one PUBLISH at QoS 1 that is exactly `packet`."""
    assert packet[0] == 0x32
    length, at, shift = 0, 1, 0
    while True:
        length |= (packet[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not packet[at - 1] & 0x80:
            break
    assert len(packet) == at + length
    topic_ends = at + 2 + int.from_bytes(packet[at : at + 2], "big")
    return (
        packet[at + 2 : topic_ends].decode(),
        int.from_bytes(packet[topic_ends : topic_ends + 2], "big"),
        packet[topic_ends + 2 :],
    )


def split(data: bytes, packet_bytes: int) -> list[tuple[str, int, bytes]]:
    assert len(data) % packet_bytes == 0
    return [unpack(data[at : at + packet_bytes]) for at in range(0, len(data), packet_bytes)]


@pytest.mark.parametrize(
    ("length", "encoded"),
    [(0, "00"), (127, "7f"), (128, "8001"), (16_383, "ff7f"), (16_384, "808001"), (2_097_152, "80808001")],
)
def test_remaining_length_is_encoded_as_the_mqtt_specification_shows(length, encoded):
    assert remaining_length(length).hex() == encoded


def test_connect_asks_for_a_clean_session_of_mqtt_3_1_1():
    assert connect("ab").hex() == "100e" + "0004" + b"MQTT".hex() + "04" + "02" + "0000" + "0002" + b"ab".hex()


def test_a_time_has_its_microseconds_and_a_fixed_width():
    assert iso(NOW) == datetime.fromtimestamp(NOW / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%S.123456Z").encode()
    assert iso(1_000_000) == b"1970-01-01T00:00:01.000000Z"


def test_stamped_rows_are_whole_packets_with_their_own_ids_topics_and_the_time_given():
    packets = fleet(WORKLOADS["S1"], "kiel", 5)
    found = split(bytes(packets.stamp(1, 4, 70, NOW)), packets.packet_bytes)
    assert [mid for _, mid, _ in found] == [70, 71, 72]
    for number, (topic, _, payload) in enumerate(found, start=1):
        message = json.loads(payload)
        assert topic == f"hanse/kiel/weather/{message['device']}"
        assert message["device"].endswith(f"-{number:05d}")
        assert message["time"] == iso(NOW).decode()
        assert len(message["readings"]) == 1


def test_packet_ids_wrap_without_ever_being_zero():
    packets = fleet(WORKLOADS["S1"], "kiel", 4)
    found = split(bytes(packets.stamp(0, 4, MIDS - 1, NOW)), packets.packet_bytes)
    assert [mid for _, mid, _ in found] == [65_534, 65_535, 1, 2]


def test_stamping_other_rows_leaves_a_row_as_it_was():
    packets = fleet(WORKLOADS["S1"], "kiel", 3)
    before = bytes(packets.stamp(0, 1, 1, NOW))
    packets.stamp(1, 3, 2, NOW + 5)
    assert bytes(packets.stamp(0, 1, 1, NOW)) == before


def test_a_pack_holds_a_hundred_distinct_readings_and_the_next_one_repeats_none():
    packets = fleet(WORKLOADS["S100"], "rostock", 2)
    keys = set()
    for us in (NOW, NOW + packets.spread_us):
        (_, _, payload), _ = split(bytes(packets.stamp(0, 2, 1, us)), packets.packet_bytes)
        message = json.loads(payload)
        assert message["time"] == iso(us).decode()
        readings = message["readings"]
        assert {reading["time"] for reading in readings} == {iso(us - k * 1_000).decode() for k in range(10)}
        keys |= {(reading["property"], reading["time"]) for reading in readings}
    assert len(keys) == 200


def test_a_pack_that_comes_before_the_spread_would_repeat_a_reading():
    packets = fleet(WORKLOADS["S100"], "rostock", 1)
    times = []
    for us in (NOW, NOW + packets.spread_us - 2):
        payload = unpack(bytes(packets.stamp(0, 1, 1, us)))[2]
        times.append({reading["time"] for reading in json.loads(payload)["readings"]})
    assert packets.spread_us == 10_001
    assert not times[0] & times[1]  # one microsecond off: distinct by luck
    payload = unpack(bytes(packets.stamp(0, 1, 1, NOW + 9_000)))[2]
    assert times[0] & {reading["time"] for reading in json.loads(payload)["readings"]}


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_workload_sends_values_within_its_bounds_and_as_many_readings_as_it_says(name):
    workload = WORKLOADS[name]
    packets = fleet(workload, "wismar", 20)
    bounds = {prop.key: prop for prop in PROPERTIES}
    for _, _, payload in split(bytes(packets.stamp(0, 20, 1, NOW)), packets.packet_bytes):
        readings = json.loads(payload)["readings"]
        assert len(readings) == workload.readings
        for reading in readings:
            prop = bounds[reading["property"]]
            assert prop.low <= reading["value"] <= prop.high
            assert reading["unit"] == prop.unit


def test_a_single_native_reading_has_about_two_hundred_bytes():
    assert 180 <= len(unpack(bytes(fleet(WORKLOADS["S1"], "rostock", 1).stamp(0, 1, 1, NOW)))[2]) <= 220


def test_packets_of_different_lengths_are_no_fleet():
    with pytest.raises(ValueError, match="one length"):
        Fleet([publish("a", b"x", 1), publish("ab", b"x", 1)], 5, [Place(0, 1, 0, 0)])


def test_devices_are_shared_out_whole():
    assert share(10_000, 7) == [1429, 1429, 1429, 1429, 1428, 1428, 1428]
