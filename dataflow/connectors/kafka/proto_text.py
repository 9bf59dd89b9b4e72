"""`.proto` text to a descriptor: what `protoc` makes of it, as far as messages go. Services, options that say nothing
about the bytes, and extensions are read over."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from typing import Any

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    OneofDescriptorProto,
)

from dataflow.errors import Rejected

_F = FieldDescriptorProto
_TOKEN = re.compile(
    r"""(?P<blank>\s+|//[^\n]*|/\*.*?\*/)
    |(?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
    |(?P<number>(?:0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)f?(?![A-Za-z_]))
    |(?P<word>\.?[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)
    |(?P<sign>[{}\[\]()<>=;,:+/-])""",
    re.VERBOSE | re.DOTALL,
)
_SCALARS = {
    name.removeprefix("TYPE_").lower(): number
    for name, number in _F.Type.items()
    if name not in ("TYPE_MESSAGE", "TYPE_ENUM", "TYPE_GROUP")
}
_LABELS = {"optional": _F.LABEL_OPTIONAL, "required": _F.LABEL_REQUIRED, "repeated": _F.LABEL_REPEATED}
_LARGEST = 2**29


def parse_proto(text: str, name: str) -> FileDescriptorProto:
    """The descriptor of a file of that name. Types of other messages are named as they are written; a pool finds them.
    Raises `Rejected` (BAD_SCHEMA) with the line."""
    return _Parser(text, name).file()


class _Parser:
    def __init__(self, text: str, name: str) -> None:
        self._text, self._name = text, name
        self._tokens = list(self._cut())
        self._at = 0
        self._proto3 = False

    def _cut(self) -> Iterator[tuple[str, str, int]]:
        place = 0
        while place < len(self._text):
            found = _TOKEN.match(self._text, place)
            if found is None:
                raise self._wrong(f"{self._text[place]!r} is not expected", place)
            if found.lastgroup != "blank":
                yield str(found.lastgroup), found.group(), place
            place = found.end()
        yield "end", "", place

    def _wrong(self, what: str, place: int | None = None) -> Rejected:
        at = self._tokens[min(self._at, len(self._tokens) - 1)][2] if place is None else place
        line = self._text.count("\n", 0, at) + 1
        return Rejected(f"{self._name}, line {line}: {what}", code="BAD_SCHEMA", hint="it is to be a .proto file")

    # Tokens

    def _next(self, kind: str = "") -> str:
        found, text, _ = self._tokens[self._at]
        if found == "end" or (kind and found != kind):
            raise self._wrong(f"{text!r} is not expected" if text else "it ends too soon")
        self._at += 1
        return text

    def _sees(self, *texts: str) -> bool:
        kind, text, _ = self._tokens[self._at]
        return kind != "text" and text in texts

    def _takes(self, text: str) -> bool:
        if not self._sees(text):
            return False
        self._at += 1
        return True

    def _must(self, text: str) -> None:
        if not self._takes(text):
            raise self._wrong(f"{text!r} is missing")

    def _strings(self) -> str:
        found = _string(self._next("text"))
        while self._tokens[self._at][0] == "text":
            found += _string(self._next("text"))
        return found

    def _integer(self) -> int:
        sign = -1 if self._takes("-") else 1
        text = self._next("number")
        try:
            octal = len(text) > 1 and text.startswith("0") and text.isdigit()
            return sign * (int(text, 8) if octal else int(text, 0))
        except ValueError:
            raise self._wrong(f"{text} is no whole number") from None

    def _skip(self) -> None:
        """To behind the end of a statement, or of its block."""
        depth = 0
        while True:
            token = self._tokens[self._at]
            text = self._next()
            if token[0] == "sign":
                depth += (text in "{[(") - (text in "}])")
                if depth == 0 and text in (";", "}"):
                    self._takes(";")
                    return

    # Statements

    def file(self) -> FileDescriptorProto:
        file = FileDescriptorProto(name=self._name)
        while self._tokens[self._at][0] != "end":
            if self._takes("syntax"):
                self._must("=")
                file.syntax = self._strings()
                self._proto3 = file.syntax == "proto3"
                if file.syntax not in ("proto2", "proto3"):
                    raise self._wrong(f"syntax {file.syntax!r} is not known")
                self._must(";")
            elif self._takes("edition"):
                raise self._wrong("editions are not known here: give a descriptor set instead")
            elif self._takes("package"):
                file.package = self._next("word")
                self._must(";")
            elif self._takes("import"):
                public = self._takes("public")
                self._takes("weak")
                file.dependency.append(self._strings())
                if public:
                    file.public_dependency.append(len(file.dependency) - 1)
                self._must(";")
            elif self._takes("message"):
                self._message(file.message_type.add())
            elif self._takes("enum"):
                self._enum(file.enum_type.add())
            elif self._sees("option", "service", "extend"):
                self._skip()
            else:
                self._must(";")
        return file

    def _message(self, message: DescriptorProto) -> None:
        message.name = self._next("word")
        self._must("{")
        while not self._takes("}"):
            if self._begins("message"):
                self._message(message.nested_type.add())
            elif self._begins("enum"):
                self._enum(message.enum_type.add())
            elif self._begins("oneof"):
                self._oneof(message)
            elif self._begins("reserved"):
                self._reserved(message, lambda first, last: message.reserved_range.add(start=first, end=last + 1))
            elif self._begins("option", "extensions", "extend", take=False):
                self._skip()
            elif not self._takes(";"):
                self._field(message)
        optional = [field for field in message.field if field.proto3_optional]
        for field in optional:  # a choice of one, behind the real ones: that is how presence is told in proto3
            field.oneof_index = len(message.oneof_decl)
            message.oneof_decl.add(name=f"_{field.name}")

    def _begins(self, *words: str, take: bool = True) -> bool:
        """Whether a statement of that kind begins; a field may be of a type or have a name that is called so, too."""
        following = self._tokens[min(self._at + 1, len(self._tokens) - 1)]
        if not self._sees(*words) or following[1] == "=":
            return False
        behind = self._tokens[min(self._at + 2, len(self._tokens) - 1)]
        if following[0] == "word" and behind[1] == "=" and not self._sees("option"):
            return False
        self._at += take
        return True

    def _oneof(self, message: DescriptorProto) -> None:
        place = len(message.oneof_decl)
        message.oneof_decl.append(OneofDescriptorProto(name=self._next("word")))
        self._must("{")
        while not self._takes("}"):
            if self._begins("option", take=False):
                self._skip()
            elif not self._takes(";"):
                self._field(message, place)

    def _field(self, message: DescriptorProto, choice: int | None = None) -> None:
        label = ""
        if choice is None and self._sees(*_LABELS) and self._tokens[self._at + 1][1] != "=":
            label = self._next("word")
        field = message.field.add(label=_LABELS[label or "optional"])
        kind = self._next("word")
        if kind == "group":
            raise self._wrong("groups are not known here")
        if kind == "map" and self._takes("<"):
            self._map(message, field)
        else:
            if not label and choice is None and not self._proto3:
                raise self._wrong("a field of proto2 begins with optional, required or repeated")
            _typed(field, kind)
            field.name = self._next("word")
        self._must("=")
        number = self._integer()
        if not 0 < number < _LARGEST:
            raise self._wrong(f"{number} cannot be the number of a field")
        field.number = number
        if choice is not None:
            field.oneof_index = choice
        elif label == "optional" and self._proto3:
            field.proto3_optional = True
        if self._takes("["):
            self._options(field)
        self._must(";")

    def _map(self, message: DescriptorProto, field: FieldDescriptorProto) -> None:
        key = self._next("word")
        self._must(",")
        value = self._next("word")
        self._must(">")
        field.name = self._next("word")
        entry = message.nested_type.add(name=_camel(field.name) + "Entry")
        entry.options.map_entry = True
        for number, (name, kind) in enumerate((("key", key), ("value", value)), 1):
            _typed(entry.field.add(name=name, number=number, label=_F.LABEL_OPTIONAL), kind)
        field.label, field.type, field.type_name = _F.LABEL_REPEATED, _F.TYPE_MESSAGE, entry.name

    def _options(self, field: FieldDescriptorProto) -> None:
        while True:
            name = self._next("word") if not self._sees("(") else self._custom()
            self._must("=")
            value = self._value()
            if name == "packed":
                field.options.packed = value == "true"
            elif name == "default" and value is not None:
                field.default_value = value
            elif name == "json_name" and value is not None:
                field.json_name = value
            if not self._takes(","):
                self._must("]")
                return

    def _custom(self) -> str:
        self._must("(")
        self._next("word")
        self._must(")")
        if self._tokens[self._at][0] == "word":
            self._next("word")
        return ""

    def _value(self) -> str | None:
        """An option's value; None for one in braces."""
        if self._sees("{"):
            depth = 0
            while True:
                token = self._tokens[self._at]
                text = self._next()
                depth += token[0] == "sign" and text == "{"
                depth -= token[0] == "sign" and text == "}"
                if not depth:
                    return None
        if self._tokens[self._at][0] == "text":
            return self._strings()
        sign = "-" if self._takes("-") else ""
        return sign + self._next()

    def _enum(self, enum: EnumDescriptorProto) -> None:
        enum.name = self._next("word")
        self._must("{")
        while not self._takes("}"):
            if self._begins("option", take=False):
                self._next()
                alias = self._takes("allow_alias")
                if alias:
                    self._must("=")
                    enum.options.allow_alias = self._next("word") == "true"
                self._skip()
            elif self._begins("reserved"):
                self._reserved(enum, lambda first, last: enum.reserved_range.add(start=first, end=last))
            elif not self._takes(";"):
                name = self._next("word")
                self._must("=")
                number = self._integer()
                if not -(2**31) <= number < 2**31:
                    raise self._wrong(f"{number} cannot be the number of a value")
                enum.value.add(name=name, number=number)
                if self._sees("["):
                    self._skip()
                else:
                    self._must(";")

    def _reserved(self, holder: Any, add: Callable[[int, int], object]) -> None:
        while True:
            if self._tokens[self._at][0] == "text":
                holder.reserved_name.append(self._strings())
            elif self._tokens[self._at][0] == "word":
                holder.reserved_name.append(self._next("word"))
            else:
                first = last = self._integer()
                if self._takes("to"):
                    most = 2**31 - 1 if isinstance(holder, EnumDescriptorProto) else _LARGEST - 1
                    last = most if self._takes("max") else self._integer()
                if not -(2**31) <= first <= last < 2**31:
                    raise self._wrong(f"{first} to {last} is no range")
                add(first, last)
            if not self._takes(","):
                self._must(";")
                return


def _typed(field: FieldDescriptorProto, kind: str) -> None:
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
    else:
        field.type_name = kind  # whether it is a message or an enumeration, only who finds it can say


def _string(text: str) -> str:
    return str(ast.literal_eval(text))


def _camel(name: str) -> str:
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))
