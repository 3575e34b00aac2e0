"""As much of protobuf's encoding as Sparkplug B takes; its field numbers are in the specification's chapter 6.4."""

import struct

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


def varint(number: int) -> bytes:
    """A number of 7 bits a byte, the least first."""
    made = bytearray()
    while number > 0x7F:  # noqa: PLR2004  (seven bits)
        made.append(number & 0x7F | 0x80)
        number >>= 7
    made.append(number)
    return bytes(made)


def whole(field: int, number: int) -> bytes:
    """A field that is an unsigned number."""
    return varint(field << 3 | VARINT) + varint(number)


def text(field: int, value: bytes | str) -> bytes:
    """A field that is text, bytes or a message."""
    value = value.encode() if isinstance(value, str) else value
    return varint(field << 3 | BYTES) + varint(len(value)) + value


def double(field: int, number: float) -> bytes:
    """A field of double precision."""
    return varint(field << 3 | FIXED64) + struct.pack("<d", number)


def single(field: int, number: float) -> bytes:
    """A field of single precision."""
    return varint(field << 3 | FIXED32) + struct.pack("<f", number)
