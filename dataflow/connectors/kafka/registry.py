"""A client of schema registries that speak Confluent's REST API: the few requests that readers and writers make.

Synchronous, for the threads that decode: a message whose schema is not known yet waits for it, once for each schema.
"""

from __future__ import annotations

import base64
import json
import ssl
import struct
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pydantic import Field, field_validator, model_validator

from dataflow.components import Config
from dataflow.errors import DataFlowError, NotFound, Rejected, Retryable

MAGIC = 0
HEADER = struct.Struct(">bI")
"""Of every value: a zero, and the id of its schema."""

_BUSY = (408, 429, 500, 502, 503, 504)
_CONTENT = "application/vnd.schemaregistry.v1+json"
_ACCEPT = f"{_CONTENT}, application/json"


class RegistryConfig(Config):
    """Where schemas are: a registry with Confluent's REST API."""

    url: str = Field(description="Its address, such as https://registry:8081; several separated by commas.")
    username: str | None = Field(None, description="User, where it asks for one (basic authentication).")
    password: str | None = Field(None, description="Password, best given as ${secret:NAME}.", repr=False)
    ca: str | None = Field(None, description="PEM file of the authorities to trust; default: the system's.")
    subject: str | None = Field(
        None, description="Subject whose newest schema gives the columns; default: `<topic>-value`, of the first topic."
    )

    @field_validator("url")
    @classmethod
    def _addresses(cls, value: str) -> str:
        for part in value.split(","):
            if not part.strip().startswith(("http://", "https://")):
                raise ValueError("an address begins with http:// or https://")
            if "@" in part:
                raise ValueError("user and password have keys of their own")
        return value

    @model_validator(mode="after")
    def _complete(self) -> RegistryConfig:
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password belong together")
        return self


class SinkRegistryConfig(RegistryConfig):
    """Where schemas are, and go: a registry with Confluent's REST API."""

    subject: str | None = Field(None, description="Subject of the schema; default: `<topic>-value`.")
    register_: bool = Field(
        True,
        alias="register",
        description="true: the schema (of `schema`, or derived from the columns) is registered if it is not yet. "
        "false: it must be there; without `schema` it is the subject's newest.",
    )


@dataclass(frozen=True, slots=True)
class Reference:
    """Another schema that one needs: by the name it uses for it."""

    name: str
    subject: str
    version: int


@dataclass(frozen=True, slots=True)
class Registered:
    """A schema as the registry has it. `kind` is AVRO, PROTOBUF or JSON."""

    id: int
    kind: str
    text: str
    references: tuple[Reference, ...] = ()


class Registry:
    """Knows what it was told: a schema never changes under its id. Thread-safe."""

    def __init__(self, config: RegistryConfig, base: Path, timeout: float) -> None:
        self._addresses = [part.strip().rstrip("/") for part in config.url.split(",")]
        self._config, self._base, self._timeout = config, base, timeout
        self._known: dict[str, Registered] = {}
        self._guard = threading.Lock()
        self._opener: urllib.request.OpenerDirector | None = None

    def by_id(self, number: int, *, serialized: bool = False) -> Registered:
        """Raises `NotFound` where there is none of that id, and what `newest` raises."""
        return self._get(f"/schemas/ids/{number}", serialized, keep=True)

    def newest(self, subject: str, *, serialized: bool = False) -> Registered:
        """Raises `NotFound` where there is no such subject, `Retryable` where no registry answers, `Rejected` where it
        lets us not in."""
        return self._get(f"/subjects/{quote(subject, safe='')}/versions/latest", serialized, keep=False)

    def version(self, reference: Reference, *, serialized: bool = False) -> Registered:
        """The schema that another one refers to. Raises like `by_id`."""
        path = f"/subjects/{quote(reference.subject, safe='')}/versions/{reference.version}"
        return self._get(path, serialized, keep=True)

    def register(self, subject: str, text: str, kind: str) -> int:
        """The id of that schema under that subject, which has it afterwards. Raises `Rejected` (INCOMPATIBLE_SCHEMA,
        BAD_SCHEMA) where the registry does not take it, and as `newest` does."""
        return self._id(f"/subjects/{quote(subject, safe='')}/versions", text, kind)

    def lookup(self, subject: str, text: str, kind: str) -> int:
        """The id of that schema; nothing is changed. Raises `NotFound` where the subject does not have it, and as
        `newest` does."""
        return self._id(f"/subjects/{quote(subject, safe='')}", text, kind)

    def _id(self, path: str, text: str, kind: str) -> int:
        wanted = {"schema": text} if kind == "AVRO" else {"schema": text, "schemaType": kind}
        answer = self._asked(path, wanted)
        try:
            return int(answer["id"])
        except (KeyError, ValueError, TypeError) as error:
            raise Rejected(f"the schema registry gives no id for {path}", code="BAD_REGISTRY") from error

    def _get(self, path: str, serialized: bool, *, keep: bool) -> Registered:
        path += "?format=serialized" if serialized else ""
        with self._guard:
            if path in self._known:
                return self._known[path]
            found = _parsed(self._asked(path), path)
            if keep:
                self._known[path] = found
            return found

    def _asked(self, path: str, body: Any = None) -> Any:
        """The answer of the first registry that gives one."""
        trouble: DataFlowError | None = None
        for address in self._addresses:
            try:
                return self._request(address, path, body)
            except Retryable as error:
                trouble = trouble or error
        assert trouble is not None
        raise trouble

    def _request(self, address: str, path: str, body: Any) -> Any:
        headers = {"Accept": _ACCEPT} if body is None else {"Accept": _ACCEPT, "Content-Type": _CONTENT}
        sent = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(address + path, data=sent, headers=headers)
        if self._config.username is not None:
            user = f"{self._config.username}:{self._config.password}".encode()
            request.add_header("Authorization", "Basic " + base64.b64encode(user).decode())
        what = f"schema registry at {address}"
        try:
            with self._opened().open(request, timeout=self._timeout) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            raise _refused(error, what, path) from None
        except urllib.error.URLError as error:
            if isinstance(error.reason, ssl.SSLCertVerificationError):
                raise Rejected(
                    f"{what}: its certificate is not trusted: {error.reason.verify_message}",
                    code="UNTRUSTED_CERTIFICATE",
                    hint="registry.ca names the authorities to trust",
                ) from error
            raise Retryable(f"{what}: {error.reason}", code="CONNECTION_FAILED") from error
        except (OSError, HTTPException) as error:
            raise Retryable(f"{what}: {type(error).__name__} {error}", code="CONNECTION_FAILED") from error
        except ValueError as error:
            raise Rejected(
                f"{what}: its answer is no JSON", code="BAD_REGISTRY", hint="is that its address?"
            ) from error

    def _opened(self) -> urllib.request.OpenerDirector:
        if self._opener is None:
            ca = str(self._base / self._config.ca) if self._config.ca else None
            try:
                trust = ssl.create_default_context(cafile=ca)
            except OSError as error:
                raise Rejected(f"{ca} cannot be used: {error}", code="BAD_CERTIFICATE", hint="ca: PEM") from error
            self._opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=trust), _NowhereElse())
        return self._opener


class _NowhereElse(urllib.request.HTTPRedirectHandler):
    """Invariant 5: a redirection would carry the password to whoever it names."""

    def redirect_request(self, *_: Any) -> None:
        return None


def split_header(value: bytes) -> tuple[int, memoryview] | None:
    """The schema's id and what follows; None where the value does not begin as those of a registry's users do."""
    if len(value) < HEADER.size or value[0] != MAGIC:
        return None
    return HEADER.unpack_from(value)[1], memoryview(value)[HEADER.size :]


def _refused(error: urllib.error.HTTPError, what: str, path: str) -> DataFlowError:
    if error.code in _BUSY:
        return Retryable(f"{what} answers {error.code}", code="SERVICE_UNAVAILABLE")
    if error.code in (401, 403):
        return Rejected(
            f"{what} lets us not in ({error.code})", code="AUTHENTICATION_FAILED", hint="registry: username, password"
        )
    if error.code == 409:
        return Rejected(
            f"{what} does not take the schema for {path}: it is not compatible{_said(error)}",
            code="INCOMPATIBLE_SCHEMA",
            hint="write another subject or topic, or change the columns or the subject's compatibility",
        )
    if error.code == 422:
        return Rejected(f"{what} refuses {path}{_said(error)}", code="BAD_SCHEMA")
    if error.code == 404:
        return NotFound(f"{what} has no {path}", hint="is that its address, and the subject right?")
    return Rejected(f"{what} answers {error.code} to {path}", code="BAD_REGISTRY")


def _said(error: urllib.error.HTTPError) -> str:
    """What the registry says about it, where it says something."""
    try:
        told = json.loads(error.read(100_000))["message"]
    except (OSError, HTTPException, ValueError, KeyError, TypeError):
        return ""
    return f": {str(told)[:500]}"


def _parsed(answer: Any, path: str) -> Registered:
    try:
        # An answer to `/schemas/ids/ID` does not repeat the id.
        number = answer["id"] if "id" in answer else path.rpartition("/")[2].partition("?")[0]
        references = tuple(
            Reference(str(one["name"]), str(one["subject"]), int(one["version"]))
            for one in answer.get("references") or ()
        )
        return Registered(int(number), str(answer.get("schemaType") or "AVRO"), str(answer["schema"]), references)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise Rejected(f"the schema registry gives no schema for {path}", code="BAD_REGISTRY") from error
