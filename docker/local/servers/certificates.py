"""Certificates for local servers that speak TLS: an authority of this machine's own, made with the JDK's keytool."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from servers import fetch, java
from servers.server import Missing, Progress

PASSWORD = "dataflow"
"""Of the key stores. It protects nothing: the keys are good for this machine alone, and anybody here may read them."""

_PIN = b"1"
_OPTIONS = ("-storetype", "PKCS12", "-storepass", PASSWORD)
_KEY = ("-keyalg", "EC", "-groupname", "secp256r1", "-validity", "3650")


def folder() -> Path:
    """`ca.pem` to trust, `broker.p12` for a server at 127.0.0.1, `client.p12` for a client who must show who it is."""
    return fetch.folder_of("certificates", _PIN)


async def make(progress: Progress) -> None:
    """Fill the folder, unless it is there. Raises `Missing` where there is no keytool."""
    async with fetch.placed("certificates", _PIN, progress) as fresh:
        if fresh:
            _fill(fresh)


def _fill(target: Path) -> None:
    authority = target / "authority.p12"
    _keytool(authority, "-genkeypair", "-alias", "ca", "-dname", "CN=DataFlow local", "-ext", "bc:c", *_KEY)
    _keytool(authority, "-exportcert", "-rfc", "-alias", "ca", "-file", str(target / "ca.pem"))
    for name, extension in (("broker", "san=ip:127.0.0.1,dns:localhost"), ("client", "eku=clientAuth")):
        store = target / f"{name}.p12"
        shutil.copy(authority, store)
        _keytool(
            store, "-genkeypair", "-alias", name, "-signer", "ca", "-dname", f"CN={name}", "-ext", extension, *_KEY
        )
        _keytool(store, "-delete", "-alias", "ca")  # a server with two keys shows either
    authority.unlink()
    for path in target.iterdir():
        path.chmod(0o644)


def _keytool(store: Path, *arguments: str) -> None:
    program = java.find(17).with_name("keytool")
    if not program.exists():
        raise Missing(f"keytool is needed, which belongs to a Java beside {program.parent}")
    quick = ("-J-XX:TieredStopAtLevel=1", "-J-XX:+UseSerialGC")
    command = [str(program), *quick, *arguments, "-keystore", str(store), *_OPTIONS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Missing(f"keytool failed: {(done.stdout + done.stderr).strip()[-500:]}")
