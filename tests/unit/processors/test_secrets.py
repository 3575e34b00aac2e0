"""Secrets in payloads and topics: masked byte for byte, with no parser, before anything is kept."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.secrets import masked, masked_topic, names_a_secret

SECRET = "F3A91C0D77B24E6E"


@pytest.mark.parametrize(
    "payload",
    [
        b'{"PASSKEY":"F3A91C0D77B24E6E","tempf":"74.5"}',
        b'[{"name": "PASSKEY", "value": "F3A91C0D77B24E6E"}]',
        b"PASSKEY=F3A91C0D77B24E6E&stationtype=GW1000&tempf=74.5",
        b'{"passkey" : "F3A91C0D77B24E6E", "tempf": 74.5',
        b'{"tempf":74.5,"passkey":"F3A91C0D77B24E6E',
        b'{"wifiPassword":"F3A91C0D77B24E6E"}',
        b'{"mqtt_password":"x\\"F3A91C0D77B24E6E\\u0041"}',
        b'{"raw":"{\\"PASSKEY\\":\\"F3A91C0D77B24E6E\\",\\"t\\":1}"}',
        b"{'api_key': 'F3A91C0D77B24E6E'}",
        b'{"apiKey":"F3A91C0D77B24E6E","AppSKey":"F3A91C0D77B24E6E"}',
        b'{"headers":{"Authorization":"Bearer F3A91C0D77B24E6E"}}',
        b"authorization: bearer F3A91C0D77B24E6EF3A91C0D77B24E6E",
        b'{"url":"mqtts://user:F3A91C0D77B24E6E@broker.example:8883"}',
        b"\xff\xfePASSKEY=F3A91C0D77B24E6E\x00\x01",
        b'{"access_token":"F3A91C0D77B24E6E","client_secret":"F3A91C0D77B24E6E"}',
    ],
)
def test_no_byte_of_a_secret_is_left_and_no_byte_moves(payload: bytes) -> None:
    made = masked(payload)
    assert SECRET.encode() not in made
    assert SECRET[4:12].encode() not in made
    assert len(made) == len(payload)
    assert masked(made) == made


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b'{"token":12345,"t":1}', b'{"token":11111,"t":1}'),
        (b'{"token":-12.5e3,"t":1}', b'{"token":-11.1e1,"t":1}'),
        (b'{"token":null,"secret":true}', b'{"token":null,"secret":true}'),
        (b'{"password":"g\xc3\xa4nsef\xc3\xbc\xc3\x9f"}', b'{"password":"***********"}'),
        (b'{"password":""}', b'{"password":""}'),
    ],
)
def test_what_was_json_still_is(payload: bytes, expected: bytes) -> None:
    assert masked(payload) == expected


@pytest.mark.parametrize(
    "payload",
    [
        b'{"temperature":21.5,"keyboard":"de","monkey":3,"passengers":12,"tokens":5,"basic information":"none of it"}',
        b'{"compass":"NNW","bypass_valve":1,"url":"https://example.org:8080/a?b=c"}',
        b"22.5",
        b"",
    ],
)
def test_what_is_no_secret_stays_as_it_came(payload: bytes) -> None:
    assert masked(payload) is payload or masked(payload) == payload


@given(
    st.binary(max_size=200),
    st.sampled_from([b'"token":"', b"PASSKEY=", b"api_key: ", b"://u:p@", b"\\"]),
    st.binary(max_size=80),
)
def test_masking_never_raises_never_moves_a_byte_and_is_done_once(before: bytes, name: bytes, after: bytes) -> None:
    payload = before + name + after
    made = masked(payload)
    assert len(made) == len(payload)
    assert masked(made) == made


@given(
    st.dictionaries(
        st.sampled_from(["passkey", "t", "api_key", "note", "token"]),
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    )
)
def test_json_stays_json_with_the_same_members(body: dict[str, object]) -> None:
    for ascii_only in (True, False):
        try:
            payload = json.dumps(body, ensure_ascii=ascii_only).encode()
        except UnicodeEncodeError:
            continue
        assert list(json.loads(masked(payload))) == list(body)


@pytest.mark.parametrize(
    ("topic", "expected"),
    [
        ("/ul/4jggokgpepnvsb2uv4s40d59ov/d1/attrs", "/ul/**************************/d1/attrs"),
        ("ul/abc/d1/attrs/t", "ul/***/d1/attrs/t"),
        ("/json/abc/d1/attrs", "/json/***/d1/attrs"),
        ("/abc/d1/attrs", "/***/d1/attrs"),
        ("hanse/rostock/weather/w1", "hanse/rostock/weather/w1"),
        ("v3/app/devices/d1/up", "v3/app/devices/d1/up"),
        ("", ""),
    ],
)
def test_an_api_key_in_a_topic_is_masked_and_its_levels_stay(topic: str, expected: str) -> None:
    assert masked_topic(topic) == expected


@pytest.mark.parametrize(
    "hostile",
    [b'"token":"', b"a", b"pass_", b'\\"token\\":\\"', b"://a:", b"bearer ", b'token=\\"' + b"\\" * 4000, b"\\"],
)
def test_a_megabyte_of_anything_is_masked_before_the_test_times_out(hostile: bytes) -> None:
    payload = b'token=\\"' + hostile * (1_500_000 // len(hostile))
    assert len(masked(payload)) == len(payload)


def test_keys_that_name_secrets_are_known() -> None:
    assert [
        key
        for key in ["PASSKEY", "wifi.password", "apiKey", "temperature", "key", "token_count"]
        if names_a_secret(key)
    ] == [
        "PASSKEY",
        "wifi.password",
        "apiKey",
    ]
