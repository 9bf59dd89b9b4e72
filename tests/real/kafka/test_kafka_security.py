"""Brokers that demand TLS, a user, a certificate; and what becomes of those who have none, or the wrong ones."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import subprocess
from pathlib import Path
from typing import Any
from uuid import uuid4

import polars as pl
import pytest
from servers import certificates
from servers import kafka as program

from dataflow.domain.flow import Lane, Receipt
from dataflow.domain.spec import PipelineSpec
from dataflow.domain.state import Status
from dataflow.embedded.temporal import Address
from dataflow.errors import Rejected, Retryable
from dataflow.platform import platform
from dataflow.settings import Settings

pytestmark = pytest.mark.kafka

SCHEMA = pl.Schema({"n": pl.Int64})
LANE = Lane(pipeline="secured", generation=1, sink="sink", number=0, splits=("s",))
CA = str(certificates.folder() / "ca.pem")


@pytest.fixture
def secured(kafka: Any) -> dict[str, Any]:
    """Brokers and security of the listener with TLS and users."""
    user = {"username": program.USER, "password": program.password(kafka)}
    return {"brokers": f"127.0.0.1:{kafka.ports['secured']}", "timeout": 20, "security": {**user, "ca": CA}}


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
async def test_in_and_out_with_tls_and_a_user(broker: Any, secured: dict[str, Any], mechanism: str) -> None:
    topic = await broker.topic()
    secured["security"]["mechanism"] = mechanism
    sink = broker.sink(topic, receipts_topic=f"{topic}.receipts", **secured)
    await sink.prepare(SCHEMA, [LANE])
    async with sink.open(LANE, SCHEMA) as writer:
        assert await writer.last_receipt() is None
        await writer.write(pl.DataFrame({"n": [1, 2]}))
        await writer.commit(Receipt(pipeline="secured", generation=1, lane=LANE.name, epoch=1, positions={}))
    source = broker.source(topic, **secured)
    found = await source.discover()
    chunks = [chunk async for chunk in source.read(found.splits[0], None, pin=found.pin)]
    assert [n for chunk in chunks for n in chunk.rows["n"]] == [1, 2]


async def test_a_certificate_of_our_own(broker: Any, kafka: Any, tmp_path: Path) -> None:
    if (openssl := shutil.which("openssl")) is None:
        pytest.skip("no openssl, which takes the key out of its store")
    store = ["pkcs12", "-in", certificates.folder() / "client.p12", "-passin", f"pass:{certificates.PASSWORD}"]
    for part, options in (
        ("key", ("-nocerts", "-passout", "pass:sesame")),
        ("certificate", ("-clcerts", "-nokeys")),
    ):
        subprocess.run([openssl, *store, *options, "-out", tmp_path / part], check=True, capture_output=True)
    topic = await broker.topic()
    await broker.put(topic, [b'{"n":1}'])
    brokers = f"127.0.0.1:{kafka.ports['tls']}"
    ours = {"certificate": str(tmp_path / "certificate"), "key": str(tmp_path / "key"), "key_password": "sesame"}
    source = broker.source(topic, brokers=brokers, security={"protocol": "SSL", "ca": CA, **ours})
    assert (await source.discover()).schema == SCHEMA
    for changed, code in (
        ({"certificate": None, "key": None, "key_password": None}, "AUTHENTICATION_FAILED"),
        ({"key_password": "wrong"}, "BAD_CERTIFICATE"),
        ({"ca": str(tmp_path / "nowhere")}, "BAD_CERTIFICATE"),
    ):
        security = {"protocol": "SSL", "ca": CA, **ours, **changed}
        with pytest.raises(Rejected) as refused:
            await broker.source(topic, brokers=brokers, security=security).discover()
        assert refused.value.code == code


@pytest.mark.parametrize(
    ("port", "security", "code"),
    [
        ("secured", {"password": "wrong"}, "AUTHENTICATION_FAILED"),
        ("secured", {"password": "wrong", "mechanism": "SCRAM-SHA-512"}, "AUTHENTICATION_FAILED"),
        ("secured", {"username": "nobody", "mechanism": "SCRAM-SHA-256"}, "AUTHENTICATION_FAILED"),
        ("secured", {"ca": None}, "UNTRUSTED_CERTIFICATE"),
        ("secured", {"protocol": "SSL", "username": None, "password": None}, "AUTHENTICATION_FAILED"),
        ("secured", {"protocol": "SASL_PLAINTEXT", "ca": None}, "TLS_REQUIRED"),
        ("secured", None, "TLS_REQUIRED"),
        ("main", {}, "TLS_FAILED"),
        ("main", {"protocol": "SASL_PLAINTEXT", "ca": None}, "AUTHENTICATION_FAILED"),
    ],
)
async def test_what_will_never_be_let_in_is_not_tried_again(
    broker: Any, kafka: Any, secured: dict[str, Any], port: str, security: dict[str, Any] | None, code: str
) -> None:
    secured["brokers"] = f"127.0.0.1:{kafka.ports[port]}"
    secured["security"] = None if security is None else {**secured["security"], **security}
    topic = await broker.topic()
    sink = broker.sink(topic, **secured)

    async def opened() -> None:
        async with sink.open(LANE, SCHEMA):
            pass

    for attempt in (broker.source(topic, **secured).discover, lambda: sink.prepare(SCHEMA, [LANE]), opened):
        with pytest.raises(Rejected) as refused:
            await attempt()
        assert refused.value.code == code
        assert program.password(kafka) not in str(refused.value)


async def test_a_broker_that_is_down_may_come_back(broker: Any, secured: dict[str, Any]) -> None:
    secured["brokers"] = "127.0.0.1:1"
    with pytest.raises(Retryable) as refused:
        await broker.source("t", **secured).discover()
    assert refused.value.code == "CONNECTION_FAILED"
    assert "Refused" in str(refused.value)


@pytest.mark.temporal
async def test_the_password_is_seen_nowhere(
    broker: Any,
    kafka: Any,
    temporal: Address,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Neither where it is right, nor where it is refused: not in events, workflow history, logs, answers."""
    caplog.set_level(logging.DEBUG)
    wrong = f"canary-{uuid4().hex}"
    monkeypatch.setenv("DATAFLOW_SECRET_KAFKA_PASSWORD", program.password(kafka))
    monkeypatch.setenv("DATAFLOW_SECRET_WRONG", wrong)
    monkeypatch.setenv("KAFKA_CA", CA)
    topic = await broker.topic()
    await broker.put(topic, [b'{"n":1}', b'{"n":2}'])

    def spec(secret: str) -> PipelineSpec:
        place = {
            "type": "kafka",
            "brokers": f"127.0.0.1:{kafka.ports['secured']}",
            "security": {"username": program.USER, "password": f"${{secret:{secret}}}", "ca": "${env:KAFKA_CA}"},
        }
        return PipelineSpec.model_validate(
            {
                "name": f"secured-{uuid4().hex[:8]}",
                "source": {**place, "topic": topic, "until": "end"},
                "sink": {**place, "topic": f"{topic}-out", "partitions": 1, "receipts_topic": f"{topic}-receipts"},
            }
        )

    update = {"temporal_address": temporal.target, "task_queue": f"q-{uuid4().hex[:12]}"}
    seen: list[str] = []
    async with platform(settings.model_copy(update=update), actor="tester") as running:
        for secret, ends in (("KAFKA_PASSWORD", Status.COMPLETED), ("WRONG", Status.FAILED)):
            definition = spec(secret)
            await running.client.create(definition)
            await running.client.start(definition.pipeline_id)
            while (state := await running.client.state(definition.pipeline_id)).status is Status.RUNNING:
                await asyncio.sleep(0.05)
            assert state.status is ends, state.error
            handle = running.client._handle(definition.pipeline_id)
            seen += [str(state), (await handle.fetch_history()).to_json()]
            seen += [str(record) async for record in running.journal.read(definition.pipeline_id)]
    assert state.error is not None
    assert state.error.code == "AUTHENTICATION_FAILED"
    assert [json.loads(message.value) for message in await broker.get(f"{topic}-out")] == [{"n": 1}, {"n": 2}]
    for secret in (wrong, program.password(kafka)):
        assert not any(secret in text for text in seen)
        assert secret not in caplog.text
