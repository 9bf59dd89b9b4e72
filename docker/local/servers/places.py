"""Where programs, data and logs live, and who runs the servers that refuse root."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from dataflow.embedded import binary

PINS = Path(__file__).resolve().parent.parent / "pins"
SERVICE_USER = "DATAFLOW_SERVICE_USER"


def default_root() -> Path:
    """`DATAFLOW_SERVERS_ROOT`, or a folder that survives a reboot and that the service user can reach."""
    named = os.environ.get("DATAFLOW_SERVERS_ROOT")
    if named:
        return Path(named).absolute()
    return Path("/var/tmp/dataflow-servers") if os.getuid() == 0 else Path.home() / ".local/share/dataflow-servers"


def service_user() -> str | None:
    """Elasticsearch and PostgreSQL refuse root: the user that root runs them as; None where we are not root."""
    return os.environ.get(SERVICE_USER, "nobody") if os.getuid() == 0 else None


def _reachable(user: str, folder: Path) -> bool:
    """Whether that user may enter every folder on the way."""
    who = pwd.getpwnam(user)
    probe = subprocess.run(
        ["test", "-x", str(folder)], user=who.pw_uid, group=who.pw_gid, extra_groups=[], cwd="/", check=False
    )
    return probe.returncode == 0


def cache() -> Path:
    """Fetched programs: the same folder as the Temporal dev server's, unless the service user cannot get there."""
    folder = binary.cache()
    user = service_user()
    if user is None or "DATAFLOW_SERVERS_HOME" in os.environ:
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    return folder if _reachable(user, folder) else Path("/var/cache/dataflow-servers")


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One server's place under a root: its folder and its ports, by purpose (`main` first)."""

    root: Path
    name: str
    ports: dict[str, int]

    @property
    def data(self) -> Path:
        return self.root / self.name

    @property
    def log(self) -> Path:
        return self.root / "logs" / f"{self.name}.log"

    @property
    def record(self) -> Path:
        return self.root / "state" / f"{self.name}.json"

    @property
    def keeper(self) -> Path:
        """Lock: held by the server's keeper as long as it lives."""
        return self.root / "state" / f"{self.name}.keeper"

    @property
    def users(self) -> Path:
        """Lock: held shared by those who want the servers kept while they live (tests)."""
        return self.root / "state" / "users"

    @property
    def port(self) -> int:
        return self.ports["main"]

    def own(self, user: str) -> None:
        """Hand the data folder, with all that is in it, to the user who runs the server."""
        who = pwd.getpwnam(user)
        self.data.mkdir(parents=True, exist_ok=True)
        for path in (self.data, *self.data.rglob("*")):
            if not path.is_symlink():
                shutil.chown(path, who.pw_uid, who.pw_gid)
        if not _reachable(user, self.data):
            raise PermissionError(f"user {user} cannot reach {self.data}: a folder above it is closed to others")
