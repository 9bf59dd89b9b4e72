"""The footer of a Parquet file, moved and merged without decoding a page.

Polars encodes row groups on all cores, but always as a whole file that begins at offset 0. Here its footer is read, the
row groups' absolute offsets are moved to where the bytes will really lie, and footers are joined. The footer is a
Thrift struct in the compact protocol (thrift/doc/specs/thrift-compact-protocol.md), its fields are those of
parquet-format's parquet.thrift (`FileMetaData`, `RowGroup`, `ColumnChunk`, `ColumnMetaData`).
"""

from __future__ import annotations

import struct
from typing import Any, TypeAlias

MAGIC = b"PAR1"

_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 12
_INTEGERS = (4, 5, 6)

Struct: TypeAlias = dict[int, tuple[int, Any]]
"""Field number to Thrift type and value: int, float, bytes, bool, `Struct`, or (element type, list of values)."""

# parquet.thrift: field numbers of what is touched here
_FILE_ROWS, _FILE_ROW_GROUPS = 3, 4
_GROUP_COLUMNS, _GROUP_ROWS, _GROUP_OFFSET, _GROUP_ORDINAL = 1, 3, 5, 7
_CHUNK_OFFSET, _CHUNK_META = 2, 3
_CHUNK_PAGE_INDEX = (4, 5, 6, 7)
_META_SIZE, _META_DATA_PAGE, _META_INDEX_PAGE, _META_DICTIONARY = 7, 9, 10, 11
_META_BLOOM = (14, 15)


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.data[self.at]
            self.at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def zigzag(self) -> int:
        value = self.varint()
        return (value >> 1) ^ -(value & 1)

    def take(self, count: int) -> bytes:
        self.at += count
        return self.data[self.at - count : self.at]

    def value(self, kind: int) -> Any:
        if kind in _INTEGERS:
            return self.zigzag()
        if kind == _BINARY:
            return self.take(self.varint())
        if kind == _STRUCT:
            return self.struct()
        if kind in (_LIST, _SET):
            head = self.take(1)[0]
            count = head >> 4
            if count == 15:
                count = self.varint()
            of = head & 0x0F
            return of, [self.take(1)[0] if of in (_TRUE, _FALSE) else self.value(of) for _ in range(count)]
        if kind == _DOUBLE:
            return struct.unpack("<d", self.take(8))[0]
        if kind == _BYTE:
            return self.take(1)[0]
        if kind in (_TRUE, _FALSE):
            return kind == _TRUE
        raise ValueError(f"thrift type {kind} does not occur in a Parquet footer")

    def struct(self) -> Struct:
        fields: Struct = {}
        number = 0
        while head := self.take(1)[0]:
            number = number + (head >> 4) if head >> 4 else self.zigzag()
            fields[number] = (head & 0x0F, self.value(head & 0x0F))
        return fields


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _zigzag(value: int) -> bytes:
    return _varint((value << 1) ^ (value >> 63))


def _encode(kind: int, value: Any) -> bytes:
    if kind in _INTEGERS:
        return _zigzag(value)
    if kind == _BINARY:
        return _varint(len(value)) + bytes(value)
    if kind == _STRUCT:
        return value if isinstance(value, bytes) else _encode_struct(value)
    if kind in (_LIST, _SET):
        of, items = value
        head = bytes([len(items) << 4 | of]) if len(items) < 15 else bytes([0xF0 | of]) + _varint(len(items))
        return head + b"".join(bytes([item]) if of in (_TRUE, _FALSE) else _encode(of, item) for item in items)
    if kind == _DOUBLE:
        return struct.pack("<d", value)
    return bytes([value]) if kind == _BYTE else b""


def _encode_struct(fields: Struct) -> bytes:
    out: list[bytes] = []
    before = 0
    for number, (kind, value) in sorted(fields.items()):
        step = number - before
        out += [bytes([step << 4 | kind]) if step < 16 else bytes([kind]) + _zigzag(number), _encode(kind, value)]
        before = number
    return b"".join(out) + b"\0"


def split_file(data: bytes | memoryview) -> Struct:
    """The footer of a whole Parquet file in memory."""
    length: int = struct.unpack("<I", data[-8:-4])[0]
    return _Reader(bytes(data[-8 - length : -8])).struct()


def moved_groups(footer: Struct, base: int) -> tuple[int, int, list[bytes]]:
    """Where the row groups of a file end in it, their rows, and each as Thrift with its offsets moved to where the
    byte after the file's magic lies at `base`.

    Page indexes and bloom filters are optional and left behind; so is the ordinal, which only encryption needs.
    """
    shift = base - len(MAGIC)
    end = len(MAGIC)
    groups = []
    for group in footer[_FILE_ROW_GROUPS][1][1]:
        for chunk in group[_GROUP_COLUMNS][1][1]:
            meta: Struct = chunk[_CHUNK_META][1]
            begin = min(meta[key][1] for key in (_META_DICTIONARY, _META_DATA_PAGE) if key in meta)
            end = max(end, begin + meta[_META_SIZE][1])
            for key in (_META_DATA_PAGE, _META_INDEX_PAGE, _META_DICTIONARY):
                if key in meta:
                    meta[key] = (meta[key][0], meta[key][1] + shift)
            for key in _META_BLOOM:
                meta.pop(key, None)
            for key in _CHUNK_PAGE_INDEX:
                chunk.pop(key, None)
            chunk[_CHUNK_OFFSET] = (chunk[_CHUNK_OFFSET][0], chunk[_CHUNK_OFFSET][1] + shift)
        if _GROUP_OFFSET in group:
            group[_GROUP_OFFSET] = (group[_GROUP_OFFSET][0], group[_GROUP_OFFSET][1] + shift)
        group.pop(_GROUP_ORDINAL, None)
        groups.append(_encode_struct(group))
    return end, footer[_FILE_ROWS][1], groups


def footer_bytes(template: Struct, rows: int, groups: list[bytes]) -> bytes:
    """The end of a Parquet file: the footer of `template` (a file of the same columns) with these encoded groups."""
    body = _encode_struct({**template, _FILE_ROWS: (_INTEGERS[2], rows), _FILE_ROW_GROUPS: (_LIST, (_STRUCT, groups))})
    return body + struct.pack("<I", len(body)) + MAGIC
