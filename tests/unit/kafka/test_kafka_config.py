"""Options, and how they reach the client."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path
from typing import Any

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.metadata import MetadataResponse_v0
from pydantic import ValidationError

from dataflow.assembly import build_source, context_of
from dataflow.connectors.kafka.cluster import Cluster, check_met
from dataflow.connectors.kafka.sink import KafkaSink
from dataflow.connectors.kafka.sink_config import Compression, KafkaSinkConfig
from dataflow.connectors.kafka.source import KafkaSource
from dataflow.connectors.kafka.source_config import KafkaSourceConfig
from dataflow.connectors.kafka.writer import transactional_id
from dataflow.domain.spec import PipelineSpec
from dataflow.errors import InvalidSpec, Rejected, Retryable
from dataflow.seams import Context

SASL = {"username": "me", "password": "hidden"}


def source(**options: Any) -> KafkaSourceConfig:
    return KafkaSourceConfig(**{"brokers": "b:9092", "topic": "t", **options})


def sink(**options: Any) -> KafkaSinkConfig:
    return KafkaSinkConfig(**{"brokers": "b:9092", "topic": "t", **options})


@pytest.mark.parametrize("brokers", ["a:9092, b:9093", ["a:9092", "b:9093"]])
def test_brokers(brokers: Any) -> None:
    assert Cluster(source(brokers=brokers), Path()).options()["bootstrap_servers"] == "a:9092,b:9093"


def test_security_reaches_the_client() -> None:
    options = Cluster(source(security={**SASL, "mechanism": "SCRAM-SHA-512"}), Path()).options()
    assert isinstance(options.pop("ssl_context"), ssl.SSLContext)
    assert {key: options[key] for key in options if key.startswith("sasl") or key == "security_protocol"} == {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "me",
        "sasl_plain_password": "hidden",
    }
    plain = Cluster(source(security={**SASL, "protocol": "SASL_PLAINTEXT"}), Path()).options()
    assert "ssl_context" not in plain
    assert plain["sasl_mechanism"] == "PLAIN"
    tls = Cluster(source(security={"protocol": "SSL"}), Path()).options()
    assert tls["ssl_context"].verify_mode == ssl.CERT_REQUIRED
    assert tls["ssl_context"].check_hostname
    assert "sasl_mechanism" not in tls
    assert "security_protocol" not in Cluster(source(), Path()).options()


def test_a_password_is_not_shown() -> None:
    assert "hidden" not in repr(source(security=SASL))


def test_certificates_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    for name in ("ca.pem", "none.pem"):
        with pytest.raises(Rejected) as refused:
            Cluster(source(security={"protocol": "SSL", "ca": name}), tmp_path).options()
        assert refused.value.code == "BAD_CERTIFICATE"


@pytest.mark.parametrize(
    "options",
    [
        {"brokers": ""},
        {"brokers": "a:9092 b"},
        {"brokers": []},
        {"topic": "a b"},
        {"topic": ".."},
        {"security": {"protocol": "SASL_SSL"}},
        {"security": {"protocol": "SSL", **SASL}},
        {"security": {"protocol": "PLAINTEXT", "ca": "x"}},
        {"security": {"protocol": "SSL", "key": "x"}},
        {"security": {"mechanism": "GSSAPI", **SASL}},
        {"columns": {"a": "INTT"}},
        {"columns": {}},
        {"columns": {"a": "INT"}, "format": "string"},
        {"columns": {"_key": "INT"}, "metadata": True},
        {"metadata": {"key": "x", "offset": "x"}},
        {"metadata": {"key": "value"}, "format": "bytes"},
        {"metadata": ["keys"]},
        {"start": "soon"},
        {"start": {0: -1}},
        {"until": "now"},
        {"timeout": 0},
    ],
)
def test_refused_by_the_source(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        source(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"value": "a"},
        {"compression": "brotli"},
        {"partitions": 0},
        {"dead_letter_topic": "a/b"},
        {"receipts_topic": "t"},
        {"receipts_topic": "t.dead"},
        {"transaction_timeout": 0},
    ],
)
def test_refused_by_the_sink(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        sink(**options)


def test_start() -> None:
    assert source(start="2024-01-01T00:00:00").start == datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
    assert source(start="2024-01-01T02:00:00+02:00").start == datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
    assert source(start={"0": 5, 1: 6}).start == {0: 5, 1: 6}


def test_metadata_names() -> None:
    assert source().metadata_names == {}
    assert list(source(metadata=True).metadata_names.values()) == [
        *("_key", "_topic", "_partition", "_offset", "_timestamp", "_headers")
    ]
    assert source(metadata=["offset", "key"]).metadata_names == {"offset": "_offset", "key": "_key"}
    assert source(metadata={"key": "id"}).metadata_names == {"key": "id"}


def test_bounded_by_until() -> None:
    assert KafkaSource(source(until="end"), Context(pipeline="p")).bounded
    assert not KafkaSource(source(), Context(pipeline="p")).bounded


def test_presets() -> None:
    assert (sink().codec, sink().linger_ms) == (Compression.NONE, 0)
    assert (sink(preset="production").codec, sink(preset="production").linger_ms) == (Compression.ZSTD, 10)
    chosen = sink(preset="production", compression="gzip", linger="5ms")
    assert (chosen.codec, chosen.linger_ms) == (Compression.GZIP, 5)
    assert Compression.GZIP.available


def test_a_folder_for_dead_letters_is_refused() -> None:
    context = Context(pipeline="p", dead_letters=Path("dead"))
    with pytest.raises(InvalidSpec) as wrong:
        KafkaSink(sink(), context)
    assert wrong.value.problems[0].path == "dead_letter_topic"
    KafkaSink(sink(dead_letter_topic="dead"), context)


def test_lanes_have_names_of_their_own() -> None:
    ids = {
        transactional_id(sink(), pipeline, generation, lane)
        for pipeline in ("a-1", "a")
        for generation in (1, 11)
        for lane in ("sink-1", "1-sink-1")
    }
    assert len(ids) == 8


def test_topics() -> None:
    assert source(topic="a").names == ("a",)
    assert source(topic=["a", "b"]).names == ("a", "b")
    matching = source(topic={"pattern": "orders-.*"})
    assert matching.names is None
    assert matching.written == "/orders-.*/"
    for topic in ([], ["a", "a"], ["a b"], {"pattern": "("}, {"pattern": ""}, {"regex": "a"}):
        with pytest.raises(ValidationError):
            source(topic=topic)


def test_where_several_topics_begin() -> None:
    assert source(start={0: 5}).start_of("t") == {0: 5}
    assert source(start={"0": 5}).start_of("t") == {0: 5}
    several = source(topic=["a", "b"], start={"a": {0: 5, 1: 6}})
    assert (several.start_of("a"), several.start_of("b")) == ({0: 5, 1: 6}, {})
    assert source(topic=["a", "b"], start="latest").start_of("b") == "latest"
    with pytest.raises(ValidationError, match="several topics"):
        source(topic=["a", "b"], start={0: 5})
    with pytest.raises(ValidationError, match="not among the topics"):
        source(topic=["a", "b"], start={"c": {0: 5}})


def test_topics_of_rows() -> None:
    assert sink(topic={"expression": "region"}, dead_letter_topic="dead").one_topic is None
    assert sink(topic="a").one_topic == "a"
    for options in (
        {"topic": {"expression": "region"}},
        {"topic": {"expression": ""}, "dead_letter_topic": "dead"},
        {"topic": "a b"},
        {"exclude": ["a"], "format": "string"},
        {"mode": "exactly"},
    ):
        with pytest.raises(ValidationError):
            sink(**options)


def test_a_transaction_outlasts_its_epoch() -> None:
    context = Context(pipeline="p", interval=30)
    with pytest.raises(InvalidSpec, match="30 s"):
        KafkaSink(sink(transaction_timeout=30), context)
    KafkaSink(sink(transaction_timeout=31), context)


def test_how_long_a_call_may_take() -> None:
    assert Cluster(source(), Path(), 7).timeout == 7
    assert Cluster(source(timeout=3), Path(), 7).timeout == 3


def test_what_schemas_need() -> None:
    registry = {"url": "http://r"}
    for options in (
        {"format": "avro"},
        {"registry": registry},
        {"format": "avro", "registry": registry, "message": "a.B"},
        {"format": "avro", "registry": registry, "columns": {"n": "BIGINT"}},
        {"format": "string", "schema": "x"},
    ):
        with pytest.raises(ValidationError):
            source(**options)
    assert source(format="protobuf", registry=registry, message="a.B").schema_ is None


def test_an_option_called_like_a_method_reaches_its_component() -> None:
    """`schema` is one of pydantic's own names."""
    stages = {"source": {"type": "kafka", "brokers": "b:1", "topic": "t", "format": "avro", "schema": '"long"'}}
    spec = PipelineSpec.model_validate({"name": "orders", **stages, "sink": {"type": "console"}})
    built = build_source(spec, context_of(spec, home=Path()))
    assert isinstance(built, KafkaSource)
    assert built._config.schema_ == '"long"'


async def test_a_cluster_without_brokers_is_not_one_yet() -> None:
    client = AIOKafkaClient(bootstrap_servers="b:1")
    with pytest.raises(Retryable) as refused:
        check_met(client)
    assert refused.value.code == "SERVICE_UNAVAILABLE"
    client.cluster.update_metadata(MetadataResponse_v0([(1, "b", 1)], []))
    check_met(client)


async def test_an_assertion_of_the_client_while_it_starts_is_a_reason_to_wait() -> None:
    with pytest.raises(Retryable) as refused:
        async with Cluster(source(), Path()).reaching():
            raise AssertionError("Did we not perform bootstrap?")
    assert refused.value.code == "SERVICE_UNAVAILABLE"
