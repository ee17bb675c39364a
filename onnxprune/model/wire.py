"""The file of a model around its large weights: read without them, and written around them.

A message of protobuf is a list of fields: a number, a kind and a content, with its length in front where
that is text, bytes or a message. So weights are found in a file, and put into one, without a copy of the
messages that they belong to (https://protobuf.dev/programming-guides/encoding).
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from math import prod
from typing import NamedTuple, TypeAlias

import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto

from ..files.writing import Parts
from .cut import PACKED, payload

Content: TypeAlias = "bytes | mmap.mmap"

GRAPH = onnx.ModelProto.GRAPH_FIELD_NUMBER
INITIALIZER = onnx.GraphProto.INITIALIZER_FIELD_NUMBER
RAW = TensorProto.RAW_DATA_FIELD_NUMBER
OTHER_DATA = {
    TensorProto.FLOAT_DATA_FIELD_NUMBER, TensorProto.INT32_DATA_FIELD_NUMBER,
    TensorProto.STRING_DATA_FIELD_NUMBER, TensorProto.INT64_DATA_FIELD_NUMBER,
    TensorProto.DOUBLE_DATA_FIELD_NUMBER, TensorProto.UINT64_DATA_FIELD_NUMBER,
    TensorProto.EXTERNAL_DATA_FIELD_NUMBER,
}  # fmt: skip
"""Fields that may hold data of a tensor, too."""

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Kinds of fields. There were two more, which no model has."""

LONGEST = 10
"""Most bytes of a number."""


class Irregular(Exception):
    """What is no list of fields, or one that protobuf itself has to judge."""


class Place(NamedTuple):
    """Where the raw data of an initializer of the main graph lie; ``number`` is its own there."""

    number: int
    offset: int
    length: int


class _Field(NamedTuple):
    """A field, from the start of its number; its content goes from ``content`` to ``end``."""

    number: int
    kind: int
    start: int
    content: int
    end: int


def read_around(data: Content, least: int) -> tuple[bytes, list[Place]]:
    """A model without the raw data of large initializers, and where those lie.

    Parameters
    ----------
    least : int
        Bytes from which on raw data are left out.

    Raises
    ------
    Irregular
        If the content is no regular message.
    """
    parts: list[bytes] = []
    places: list[Place] = []
    count = -1
    for graph in _fields(data, 0, len(data)):
        if (graph.number, graph.kind) != (GRAPH, BYTES):
            parts.append(data[graph.start : graph.end])
            continue
        inside, done = list[bytes](), graph.content
        for tensor in _fields(data, graph.content, graph.end):
            if (tensor.number, tensor.kind) != (INITIALIZER, BYTES):
                continue
            count += 1
            raw = _raw(data, tensor) if tensor.end - tensor.content >= least else None
            if raw is not None and raw.end - raw.content >= least:
                slim = data[tensor.content : raw.start] + data[raw.end : tensor.end]
                inside += data[done : tensor.start], _head(INITIALIZER, len(slim)), slim
                places.append(Place(count, raw.content, raw.end - raw.content))
                done = tensor.end
        inside.append(data[done : graph.end])
        parts += _head(GRAPH, sum(map(len, inside))), *inside
    return b"".join(parts), places


def write_around(light: bytes, weights: Mapping[int, tuple[int, Parts]]) -> Iterator[bytes | memoryview]:
    """The bytes of a model, part by part, with raw data in initializers where ``light`` has empty ones.

    Parameters
    ----------
    light : bytes
        A serialised model.
    weights : mapping
        Number of an initializer -> how many bytes its raw data are, and those, part by part.
    """
    graph = next(field for field in _fields(light, 0, len(light)) if field.number == GRAPH)
    tensors = [f for f in _fields(light, graph.content, graph.end) if f.number == INITIALIZER]
    size, places = graph.end - graph.content, []
    for index, (length, _) in sorted(weights.items()):
        tensor = tensors[index]
        raw = next(f for f in _fields(light, tensor.content, tensor.end) if f.number == RAW)
        head = _head(RAW, length)
        inner = tensor.end - tensor.content - (raw.end - raw.start) + len(head) + length
        front = _head(INITIALIZER, inner)
        size += len(front) + inner - (tensor.end - tensor.start)
        places.append((index, tensor.start, front + light[tensor.content : raw.start] + head, raw.end))
    yield light[: graph.start] + _head(GRAPH, size)
    done = graph.content
    for index, start, front, end in places:
        yield light[done:start] + front
        yield from weights[index][1]
        done = end
    yield light[done:]


def _fields(data: Content, start: int, end: int) -> Iterator[_Field]:
    """Fields of a message."""
    at = start
    while at < end:
        tag, content = _number(data, at, end)
        kind = tag & 7
        if kind == VARINT:
            _, stop = _number(data, content, end)
        elif kind == BYTES:
            length, content = _number(data, content, end)
            stop = content + length
        elif kind in (FIXED64, FIXED32):
            stop = content + (8 if kind == FIXED64 else 4)
        else:
            raise Irregular
        if stop > end or not tag >> 3:
            raise Irregular
        yield _Field(tag >> 3, kind, at, content, stop)
        at = stop


def _number(data: Content, at: int, end: int) -> tuple[int, int]:
    """A number, seven bits a byte, and where it ends."""
    value = 0
    for place in range(min(LONGEST, end - at)):
        byte = data[at + place]
        value |= (byte & 127) << 7 * place
        if byte < 128:
            return value, at + place + 1
    raise Irregular


def _head(number: int, length: int) -> bytes:
    """What stands in front of a content of so many bytes."""
    found = bytearray()
    for value in (number << 3 | BYTES, length):
        while value > 127:
            found.append(value & 127 | 128)
            value >>= 7
        found.append(value)
    return bytes(found)


def _raw(data: Content, tensor: _Field) -> _Field | None:
    """Raw data of a tensor that has nothing else, and as many as its shape takes; else None."""
    fields = list(_fields(data, tensor.content, tensor.end))
    found = [field for field in fields if field.number == RAW]
    if len(found) != 1 or found[0].kind != BYTES or OTHER_DATA.intersection(f.number for f in fields):
        return None
    (raw,) = found
    try:
        rest = TensorProto.FromString(data[tensor.content : raw.start] + data[raw.end : tensor.end])
        size = payload(rest.data_type, prod(rest.dims))
    except (DecodeError, KeyError):  # another sort of damage, or an element type of tomorrow
        return None
    plain = rest.data_type not in (*PACKED, TensorProto.STRING) and rest.data_location == TensorProto.DEFAULT
    return raw if plain and size == raw.end - raw.content else None
