"""Secrets that networks put into payloads and topics, masked before anything reaches the database. Pure.

Station pass keys (Ecowitt), API keys (FIWARE's agents have them in the topic), passwords, tokens, keys of LoRaWAN
sessions. Patterns on bytes and no parser, because a dead letter is kept when nothing could parse it. Every byte of a
secret is replaced by one other, so that all offsets stay and what was JSON still is; masking twice changes nothing. The
Kafka log holds the bytes as they came.
"""

import re

_NAMES = (
    rb"(?:pass[_-]?key|pass[_-]?word|passwd|pass[_-]?phrase|(?<![a-z])(?:pwd|psk)|secret|token|authorization|credentials?"
    rb"|(?:api|access|app|nwk|f_?nwk_?s_?int|s_?nwk_?s_?int|nwk_?s_?enc|private|secret|shared|master|encryption|network|auth)"
    rb"[ _-]?s?[ _-]?key)"
)
# A name, quoted, escaped within a string or bare as in a form; then its value in the same three forms, or as the next
# member ({"name": "PASSKEY", "value": …}).
_ASSIGNED = re.compile(
    rb"(?i)" + _NAMES + rb"(?P<end>\\{0,3}[\"']?)\s{0,8}"
    rb"(?:,\s{0,8}\\{0,3}[\"'](?:v|val|value|wert)\\{0,3}[\"']\s{0,8})?[:=]\s{0,8}"
    rb"(?:\\{1,3}\"(?P<escaped>[^\"\\]*(?:\\+(?![\"\\])[^\"\\]*)*)"
    rb"|\"(?P<quoted>(?:[^\"\\]|\\.|\\\Z)*)"
    rb"|'(?P<single>[^']*)"
    rb"|(?P<bare>[^\s\"'&,;}\])\\|\[{]+))",
    re.DOTALL,
)
_BEARER = re.compile(rb"(?i)\bbearer\s{1,4}(?P<token>[a-z0-9._~+/=-]{16,})")
_URL = re.compile(rb"://[^\s/:@\"']{0,100}:(?P<password>[^\s/@\"']{1,200})@")
# One search for what any of them needs: most payloads hold none of it.
_SUSPECT = re.compile(rb"(?i)pass|pwd|secret|token|key|psk|authori|credential|bearer|://")
_WORDS = frozenset({b"null", b"true", b"false"})
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
_DIGIT = re.compile(rb"\d")

# FIWARE's agents: /ul/KEY/device/attrs, /json/KEY/device/attrs, and the old form without the protocol.
_TOPIC = re.compile(r"/?(?:ul|json)/(?P<key>[^/]+)/[^/]+/|/(?P<old>[^/]+)/[^/]+/attrs(?:/|$)")
_SECRET_NAME = re.compile(rb"(?i)" + _NAMES + rb"$")
_SHORTEST = len("psk")


def masked(payload: bytes) -> bytes:
    """The payload with every byte of its secrets replaced; the same object where it holds none."""
    if _SUSPECT.search(payload) is None:
        return payload
    for pattern in (_BEARER, _ASSIGNED, _URL):
        payload = pattern.sub(_hidden, payload)
    return payload


def masked_topic(topic: str) -> str:
    """The topic with an API key in it as `*`, one for each character; the levels stay what they were."""
    found = _TOPIC.match(topic)
    if found is None:
        return topic
    begin, end = found.span(found.lastgroup or 0)
    return topic[:begin] + "*" * (end - begin) + topic[end:]


def names_a_secret(key: str) -> bool:
    """Whether a payload's key is the name of a secret."""
    return len(key) >= _SHORTEST and _SECRET_NAME.search(key.encode("utf-8", "replace")) is not None


def _hidden(found: re.Match[bytes]) -> bytes:
    whole, start = found[0], found.start()
    for group in found.re.groupindex:
        begin, end = found.span(group)
        if group != "end" and begin >= 0:
            json = group == "bare" and b'"' in found["end"]
            return whole[: begin - start] + _mask(found[group], json=json) + whole[end - start :]
    return whole


def _mask(secret: bytes, *, json: bool) -> bytes:
    """As many bytes; in place of a JSON number one of the same form, so that the whole is still JSON."""
    if json and secret in _WORDS:
        return secret
    if json and _NUMBER.fullmatch(secret):
        return _DIGIT.sub(b"1", secret)
    return b"*" * len(secret)
