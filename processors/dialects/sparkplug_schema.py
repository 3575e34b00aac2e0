"""Sparkplug B on the wire: its protobuf messages, and numbers out of their fields. No topics, no births.

The schema is written from the tables of the Sparkplug 3.0 specification (chapter 6.4) and built at import. It differs
in two ways that the wire does not show: text is declared as bytes, so that text which is no UTF-8 costs its own metric
and not the message, and what no reading comes from (metadata, parameters, extensions) is left out, that is skipped.
"""

import struct
from collections.abc import Iterator
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

# Field name, number, type; a type of another message is its name, "*" repeats, "=" makes it one of the values.
_MESSAGES = {
    "Payload": "timestamp 1 uint64|metrics 2 *Metric|seq 3 uint64|uuid 4 bytes|body 5 bytes",
    "Metric": (
        "name 1 bytes|alias 2 uint64|timestamp 3 uint64|datatype 4 uint32|is_historical 5 bool|is_transient 6 bool|"
        "is_null 7 bool|properties 9 PropertySet|int_value 10 =uint32|long_value 11 =uint64|float_value 12 =float|"
        "double_value 13 =double|boolean_value 14 =bool|string_value 15 =bytes|bytes_value 16 =bytes|"
        "dataset_value 17 =DataSet|template_value 18 =Template"
    ),
    "PropertySet": "keys 1 *bytes|values 2 *PropertyValue",
    "PropertyValue": (
        "type 1 uint32|is_null 2 bool|int_value 3 =uint32|long_value 4 =uint64|float_value 5 =float|"
        "double_value 6 =double|boolean_value 7 =bool|string_value 8 =bytes"
    ),
    "DataSet": "num_of_columns 1 uint64|columns 2 *bytes|types 3 *uint32|rows 4 *Row",
    "Row": "elements 1 *Cell",
    "Cell": (
        "int_value 1 =uint32|long_value 2 =uint64|float_value 3 =float|double_value 4 =double|boolean_value 5 =bool|"
        "string_value 6 =bytes"
    ),
    "Template": "version 1 bytes|metrics 2 *Metric|template_ref 4 bytes|is_definition 5 bool",
}

_FIELD = descriptor_pb2.FieldDescriptorProto
_PACKAGE = "hanse.sparkplug"


def _messages() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="sparkplug_b.proto", package=_PACKAGE, syntax="proto2")
    for name, fields in _MESSAGES.items():
        described = file.message_type.add(name=name)
        for line in fields.split("|"):
            field, number, kind = line.split()
            added = described.field.add(name=field, number=int(number))
            added.label = _FIELD.LABEL_REPEATED if kind[0] == "*" else _FIELD.LABEL_OPTIONAL
            if kind[0] == "=":
                if not described.oneof_decl:
                    described.oneof_decl.add(name="value")
                added.oneof_index = 0
            kind = kind.lstrip("*=")
            if kind in _MESSAGES:
                added.type, added.type_name = _FIELD.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
            else:
                added.type = getattr(_FIELD, f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in _MESSAGES
    }


Payload: Any = _messages()["Payload"]

BOOLEAN = 11
TEMPLATE = 19
# Bits of the integer types; signed ones travel in unsigned fields, in two's complement.
SIGNED = {1: 8, 2: 16, 3: 32, 4: 64}
UNSIGNED = {5: 8, 6: 16, 7: 32, 8: 64}
# Types by their numbers, for a person to read.
_BASIC = "Unknown Int8 Int16 Int32 Int64 UInt8 UInt16 UInt32 UInt64 Float Double Boolean String DateTime Text UUID"
_LARGE = "DataSet Bytes File Template PropertySet PropertySetList"
_ARRAY = "Int8 Int16 Int32 Int64 UInt8 UInt16 UInt32 UInt64 Float Double Boolean String DateTime"
NAMES = (*_BASIC.split(), *_LARGE.split(), *(f"{name}Array" for name in _ARRAY.split()))
_ARRAYS = {22: "b", 23: "h", 24: "i", 25: "q", 26: "B", 27: "H", 28: "I", 29: "Q", 30: "f", 31: "d"}
_BOOLEANS = 32
_COUNT = 4  # bytes before the bits of an array of booleans
_CARRIERS = {"int_value": 32, "long_value": 64}


def number(kind: int, field: str, value: Any) -> float | int | bool | None:
    """What a value field holds, read as a type: a number, a boolean, or None where the two don't go together.

    Encoders put negative numbers of small types into the 32 bits whole or into their own 8 or 16 bits; and some put
    32-bit types into the field of 64.
    """
    carrier = _CARRIERS.get(field)
    if carrier is not None:
        bits = SIGNED.get(kind)
        if bits is None:
            bits = UNSIGNED.get(kind)
            return value if bits is not None and value < 1 << bits else None
        half = 1 << (bits - 1)
        if value < half:
            return int(value)
        if value < 2 * half:
            return int(value) - 2 * half
        return int(value) - (1 << carrier) if value >= (1 << carrier) - half else None
    if field == "boolean_value":
        return bool(value) if kind == BOOLEAN else None
    return value if (kind, field) in {(9, "float_value"), (10, "double_value")} else None


def elements(kind: int, data: bytes) -> Iterator[float | int | bool] | None:
    """The members of an array type, which are little-endian bytes; None if it is no array of numbers or not whole."""
    code = _ARRAYS.get(kind)
    if code is not None:
        return (
            (value for (value,) in struct.iter_unpack(f"<{code}", data))
            if len(data) % struct.calcsize(f"<{code}") == 0
            else None
        )
    if kind != _BOOLEANS or len(data) < _COUNT:
        return None
    count = int.from_bytes(data[:_COUNT], "little")
    if (count + 7) // 8 != len(data) - _COUNT:
        return None
    return (bool(data[_COUNT + place // 8] & 0x80 >> place % 8) for place in range(count))
