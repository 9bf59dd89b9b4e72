"""The compose file and the image against what the rest of the project says: there may be no Docker to try them with."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from servers import elasticsearch, fetch, kafka
from servers.fleet import SERVERS

from dataflow.embedded.keeper import SEARCH_ATTRIBUTES
from dataflow.settings import Settings

DOCKER = Path(__file__).parents[3] / "docker"
COMPOSE: dict[str, Any] = YAML(typ="safe").load(DOCKER / "compose.yaml")
SERVICES: dict[str, Any] = COMPOSE["services"]
IMAGE = (DOCKER / "Dockerfile").read_text()

# The platform's ports on the host, as its documentation has always given them, and those that Temporal adds.
PORTS = {
    "api": {8080, 9095},
    "cassandra": {9042},
    "elasticsearch": {9200},
    "grafana": {3000},
    "kafka": {9093},
    "kafka-ui": {8090},
    "kibana": {5601},
    "logstash": {5000, 5044},
    "postgres": {5432},
    "prometheus": {9090},
    "redis": {6379},
    "temporal": {7233},
    "temporal-ui": {8233},
}


def host_ports(service: dict[str, Any]) -> set[int]:
    return {int(text.split(":")[1]) for text in service.get("ports", ())}


def test_ports_are_the_documented_ones() -> None:
    assert {name: host_ports(service) for name, service in SERVICES.items() if service.get("ports")} == PORTS


def test_ports_are_those_without_docker() -> None:
    for name, server in SERVERS.items():
        assert server.ports["main"] in PORTS[name]
    assert SERVERS["temporal"].ports["ui"] in PORTS["temporal-ui"]


def test_no_port_is_open_to_others() -> None:
    assert all(text.startswith("127.0.0.1:") for service in SERVICES.values() for text in service.get("ports", ()))


def test_versions_are_pinned_and_those_without_docker() -> None:
    images = {name: service["image"].partition(":")[2] for name, service in SERVICES.items()}
    cassandra = re.search(r"<version>([\d.]+)</version>", fetch.pom("cassandra").read_text())
    assert cassandra
    assert images["cassandra"] == cassandra[1]
    assert images["kafka"] == kafka.VERSION
    assert images["elasticsearch"] == images["kibana"] == images["logstash"] == elasticsearch.VERSION
    foreign = {tag for name, tag in images.items() if name not in ("api", "worker")}
    assert all(re.fullmatch(r"v?\d+\.\d+(\.\d+)?", tag) for tag in foreign), foreign


@pytest.mark.parametrize("name", SERVICES)
def test_each_service_is_watched_and_has_a_profile(name: str) -> None:
    service = SERVICES[name]
    assert set(service["profiles"]) <= {"core", "search", "observability"}
    assert service["restart"]
    watched = "healthcheck" in service or name in ("api", "temporal-setup")  # by its image; ends at once
    assert watched
    for other in service.get("depends_on", {}):
        assert other in SERVICES
    for volume in service.get("volumes", ()):
        source = volume.split(":")[0]
        assert (DOCKER / source).exists() if source.startswith("./") else source in COMPOSE["volumes"]


def test_variables_are_settings() -> None:
    known = {f"DATAFLOW_{name.upper()}" for name in Settings.model_fields}
    used = {
        key for service in SERVICES.values() for key in service.get("environment", {}) if key.startswith("DATAFLOW_")
    }
    used |= set(re.findall(r"(DATAFLOW_[A-Z_]+)=", IMAGE))
    assert used
    assert used <= known


def test_search_attributes_are_those_of_the_embedded_server() -> None:
    script = SERVICES["temporal-setup"]["command"][0]
    assert dict(re.findall(r"--name (\w+) --type (\w+)", script)) == SEARCH_ATTRIBUTES


def test_the_image_runs_without_rights_and_exposes_its_ports() -> None:
    last = IMAGE.rpartition("\nFROM ")[2]
    user = re.search(r"^USER (\d+):(\d+)$", last, re.MULTILINE)
    assert user
    assert "0" not in user.groups()
    exposed = re.search(r"^EXPOSE ([\d ]+)$", last, re.MULTILINE)
    assert exposed
    defaults = {Settings.model_fields[name].default for name in ("api_port", "metrics_port")}
    assert {int(port) for port in exposed[1].split()} == defaults


def test_what_the_image_copies_is_let_in() -> None:
    let_in = {line[1:] for line in (DOCKER.parent / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {word for words in re.findall(r"^COPY (?!--)(.+) \S+$", IMAGE, re.MULTILINE) for word in words.split()}
    assert copied == let_in
    assert all((DOCKER.parent / name).exists() for name in copied)


def test_scrapes_what_exists() -> None:
    text = (DOCKER / "prometheus" / "prometheus.yml").read_text()
    assert f"api:{Settings.model_fields['metrics_port'].default}" in text


def test_docker_itself_accepts_it() -> None:
    if not shutil.which("docker") or subprocess.run(["docker", "compose", "version"], capture_output=True).returncode:
        pytest.skip("no docker compose here")
    command = ["docker", "compose", "-f", str(DOCKER / "compose.yaml"), "--profile", "*", "config", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
