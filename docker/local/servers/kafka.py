"""Kafka 4 in KRaft mode: one node, broker and controller.

Beside the plain listener there are two that demand something: `secured` TLS and a user (SASL: PLAIN or SCRAM), `tls`
TLS and a certificate of the client's own.
"""

from __future__ import annotations

import base64
import os
import secrets
import subprocess
from pathlib import Path

from servers import certificates, fetch, java, wire
from servers.places import Site
from servers.server import Launch, Missing, Progress, Server

VERSION = "4.4.0"
USER = "dataflow"

# One node: every internal topic has one replica, few partitions and few threads, and the log cleaner fits a small heap.
PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{main},CONTROLLER://127.0.0.1:{controller},\
SECURED://127.0.0.1:{secured},TLS://127.0.0.1:{tls}
advertised.listeners=PLAINTEXT://127.0.0.1:{main},SECURED://127.0.0.1:{secured},TLS://127.0.0.1:{tls}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURED:SASL_SSL,TLS:SSL
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
log.dirs={data}/data

offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
default.replication.factor=1
min.insync.replicas=1
offsets.topic.num.partitions=4
transaction.state.log.num.partitions=4
share.coordinator.state.topic.num.partitions=4
num.partitions=1
num.network.threads=2
num.io.threads=4
background.threads=2
log.cleaner.dedupe.buffer.size=16777216

# After kill -9 the broker is refused until its old session lapses (9 s by default).
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500

auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0

ssl.keystore.type=PKCS12
ssl.keystore.location={certificates}/broker.p12
ssl.keystore.password={store_password}
ssl.truststore.type=PEM
ssl.truststore.location={certificates}/ca.pem
listener.name.tls.ssl.client.auth=required
listener.name.tls.num.network.threads=1
listener.name.secured.num.network.threads=1
listener.name.secured.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.secured.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
user_{user}="{password}";
listener.name.secured.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.secured.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
"""

LOGGING = """\
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d{ISO8601} %-5p %c{1} %m%n
rootLogger.level=INFO
rootLogger.appenderRef.out.ref=out
# The start-up dumps of every configuration value.
logger.config.name=org.apache.kafka.common.config.AbstractConfig
logger.config.level=WARN
"""


async def install(progress: Progress) -> None:
    java.find(17)
    await certificates.make(progress)
    await fetch.fetch_jars("kafka", progress)


def password(site: Site) -> str:
    """Of the user of the secured listener: made once for each data folder. Raises `OSError` where there is none yet."""
    return (site.data / "password").read_text()


def launch(site: Site) -> Launch:
    """Writes the configuration, and formats the storage where it is new."""
    program, heap = str(java.find(17)), os.environ.get("DATAFLOW_KAFKA_HEAP", "512m")
    site.data.mkdir(parents=True, exist_ok=True)
    if not (site.data / "password").exists():
        (site.data / "password").write_text(secrets.token_hex(16))
    properties, logging = site.data / "server.properties", site.data / "log4j2.properties"
    told = {"user": USER, "password": password(site), "store_password": certificates.PASSWORD}
    properties.write_text(PROPERTIES.format(**site.ports, **told, data=site.data, certificates=certificates.folder()))
    logging.write_text(LOGGING)
    common = [f"-Dlog4j2.configurationFile={logging}", "-cp", f"{fetch.jars('kafka')}/*"]
    if not (site.data / "data" / "meta.properties").exists():
        _format(program, common, properties, password(site))
    return Launch(
        command=[
            *(program, f"-Xms{heap}", f"-Xmx{heap}", "-XX:+UseG1GC", "-XX:+ExitOnOutOfMemoryError"),
            *("-Djava.awt.headless=true", *common, "kafka.Kafka", str(properties)),
        ]
    )


def _format(program: str, common: list[str], properties: Path, password: str) -> None:
    # Any 16 bytes in URL-safe base64 are a cluster id; a leading dash would read as an option.
    cluster = "A" + base64.urlsafe_b64encode(os.urandom(16)).decode().rstrip("=")[1:]
    small = [program, "-Xmx128m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
    users = [f"SCRAM-SHA-{bits}=[name={USER},password={password}]" for bits in (256, 512)]
    scram = [part for user in users for part in ("--add-scram", user)]
    tool = ["kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(properties), *scram]
    done = subprocess.run([*small, *common, *tool], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Missing(f"Kafka's storage cannot be formatted: {(done.stdout + done.stderr).strip()[-500:]}")


def ready(site: Site) -> str:
    wire.kafka(site.port)
    return VERSION


KAFKA = Server(
    name="kafka",
    ports={"main": 9093, "controller": 9094, "secured": 9193, "tls": 9194},
    install=install,
    launch=launch,
    ready=ready,
    variables=lambda site: {
        "DATAFLOW_KAFKA_BROKERS": f"127.0.0.1:{site.port}",
        "DATAFLOW_KAFKA_SECURED_BROKERS": f"127.0.0.1:{site.ports['secured']}",
        "DATAFLOW_KAFKA_CA": str(certificates.folder() / "ca.pem"),
        "DATAFLOW_KAFKA_USER": USER,
        "DATAFLOW_SECRET_KAFKA_PASSWORD": password(site),
    },
)
