"""Cassandra 5: one node, on Java 17 and no other."""

from __future__ import annotations

import os

from servers import fetch, java, wire
from servers.places import Site
from servers.server import Launch, Missing, Progress, Server

# `commitlog_sync: batch`: a write is on disk before it is acknowledged. Cassandra's own default (periodic) loses the
# last acknowledged writes at kill -9. Long time-outs: a busy two-core machine may stall for seconds.
YAML = """\
cluster_name: dataflow-local
num_tokens: 1
partitioner: org.apache.cassandra.dht.Murmur3Partitioner
endpoint_snitch: SimpleSnitch
seed_provider:
  - class_name: org.apache.cassandra.locator.SimpleSeedProvider
    parameters:
      - seeds: "127.0.0.1:{storage}"
listen_address: 127.0.0.1
storage_port: {storage}
rpc_address: 127.0.0.1
native_transport_port: {main}
auto_bootstrap: false

data_file_directories: ["{data}/data"]
commitlog_directory: {data}/commitlog
saved_caches_directory: {data}/saved_caches
hints_directory: {data}/hints
cdc_raw_directory: {data}/cdc_raw
hinted_handoff_enabled: false

memtable_heap_space: 128MiB
memtable_offheap_space: 128MiB
file_cache_size: 64MiB
key_cache_size: 16MiB
counter_cache_size: 0MiB
commitlog_sync: batch
commitlog_segment_size: 16MiB
commitlog_total_space: 256MiB
concurrent_reads: 16
concurrent_writes: 16
concurrent_counter_writes: 4
concurrent_compactors: 1

read_request_timeout: 10s
write_request_timeout: 10s
range_request_timeout: 20s
cas_contention_timeout: 5s
truncate_request_timeout: 60s
request_timeout: 10s
"""

LOGGING = """\
<configuration scan="false">
  <appender name="out" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><pattern>%d{ISO8601} %-5level %logger{0} %msg%n</pattern></encoder>
  </appender>
  <root level="WARN"><appender-ref ref="out"/></root>
</configuration>
"""

# What 5.0 reaches into on Java 17 (its own conf/jvm17-server.options).
EXPORTS = """java.base/jdk.internal.misc java.management.rmi/com.sun.jmx.remote.internal.rmi java.rmi/sun.rmi.registry
java.rmi/sun.rmi.server java.sql/java.sql java.base/java.lang.ref jdk.unsupported/sun.misc
jdk.compiler/com.sun.tools.javac.file jdk.attach/sun.tools.attach"""
OPENS = """java.base/java.lang java.base/java.lang.module java.base/java.io java.base/java.util java.base/sun.nio.ch
java.base/jdk.internal.loader java.base/jdk.internal.ref java.base/jdk.internal.reflect java.base/jdk.internal.math
java.base/jdk.internal.module java.base/jdk.internal.util.jar jdk.management/com.sun.management.internal
jdk.compiler/com.sun.tools.javac"""


async def install(progress: Progress) -> None:
    java.find(17, 17)
    await fetch.fetch_jars("cassandra", progress)


def launch(site: Site) -> Launch:
    """Writes the configuration; a second start on the same folder keeps the data."""
    heap = os.environ.get("DATAFLOW_CASSANDRA_HEAP", "768m")
    jars, conf = fetch.jars("cassandra"), site.data / "conf"
    agents = sorted(jars.glob("jamm-*.jar"))  # it measures the size of objects
    if not agents:
        raise Missing(f"no jamm-*.jar in {jars}: remove that folder, and it is fetched again")
    (conf / "triggers").mkdir(parents=True, exist_ok=True)
    (site.data / "tmp").mkdir(exist_ok=True)
    (conf / "cassandra.yaml").write_text(YAML.format(**site.ports, data=site.data))
    (conf / "logback.xml").write_text(LOGGING)
    return Launch(
        command=[
            *(str(java.find(17, 17)), f"-Xms{heap}", f"-Xmx{heap}", "-XX:MaxDirectMemorySize=256m", "-XX:+UseG1GC"),
            *("-XX:+ExitOnOutOfMemoryError", "-Xss256k", "-Djava.awt.headless=true"),
            *("-Djava.net.preferIPv4Stack=true", f"-Djava.io.tmpdir={site.data / 'tmp'}"),
            *("-Djdk.attach.allowAttachSelf=true", "-Dio.netty.tryReflectionSetAccessible=true"),
            *(word for part in EXPORTS.split() for word in ("--add-exports", f"{part}=ALL-UNNAMED")),
            *(word for part in OPENS.split() for word in ("--add-opens", f"{part}=ALL-UNNAMED")),
            f"-javaagent:{agents[0]}",
            *(f"-Dcassandra.config=file://{conf / 'cassandra.yaml'}", f"-Dcassandra.storagedir={site.data}"),
            *(f"-Dlogback.configurationFile={conf / 'logback.xml'}", f"-Dcassandra.logdir={site.data}"),
            *("-Dcassandra-foreground=yes", "-Dcassandra.skip_wait_for_gossip_to_settle=0"),
            *("-Dcassandra.ring_delay_ms=0", "-Dcassandra.superuser_setup_delay_ms=0"),
            *("-cp", f"{conf}:{jars}/*", "org.apache.cassandra.service.CassandraDaemon"),
        ]
    )


CASSANDRA = Server(
    name="cassandra",
    ports={"main": 9042, "storage": 7000},
    install=install,
    launch=launch,
    ready=lambda site: wire.cassandra(site.port),
    variables=lambda site: {"DATAFLOW_CASSANDRA_HOSTS": f"127.0.0.1:{site.port}"},
)
