"""A redis-server as on an untrusted network: TLS only, users from deploy/redis/users.acl, no default user."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.ports import free_port
from tests.processes import running_redis
from tests.tools import tool

CONFIGURATION = Path(__file__).parents[2] / "deploy" / "redis" / "redis.conf"
ACL_FILE = Path(__file__).parents[2] / "deploy" / "redis" / "users.acl"
PASSWORDS = {"worker": "w%rker-pass", "producer": "pr@ducer-pass", "hub": "hub-pass/1"}


def certificates(folder: Path, addresses: tuple[str, ...] = ("127.0.0.1",)) -> tuple[Path, Path, Path]:
    """A CA of one day and a server certificate signed by it: (ca.pem, server.pem, server.key)."""
    now = datetime.datetime.now(datetime.UTC)

    def build(name: str, key: ec.EllipticCurvePrivateKey, issuer: str) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
        )

    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    usage = x509.KeyUsage(
        digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    identifier = x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key())
    ca = (
        build("test CA", ca_key, "test CA")
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(identifier, critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address)) for address in addresses])
    server = (
        build("redis", key, "test CA")
        .add_extension(names, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    files = (folder / "ca.pem", folder / "server.pem", folder / "server.key")
    files[0].write_bytes(ca.public_bytes(pem))
    files[1].write_bytes(server.public_bytes(pem))
    files[2].write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return files


@dataclass(frozen=True)
class SecureServer:
    """Its port, its CA file, and how each role logs in."""

    port: int
    ca: Path

    def url(self, user: str, password: str | None = None, *, scheme: str = "rediss", host: str = "127.0.0.1") -> str:
        """The URL of one of the ACL's users, as it stands in OCRFLEET_REDIS_URL."""
        from urllib.parse import quote

        secret = quote(PASSWORDS[user] if password is None else password, safe="")
        query = f"?ssl_ca_certs={self.ca}" if scheme == "rediss" else ""
        return f"{scheme}://{user}:{secret}@{host}:{self.port}/0{query}"

    def environment(self, base: Mapping[str, str], user: str) -> dict[str, str]:
        """A process's environment for that user."""
        return {**base, "OCRFLEET_REDIS_URL": self.url(user)}


@contextmanager
def secure_server(folder: Path) -> Iterator[SecureServer]:
    """Debian's redis-server with TLS and the shipped ACL; an extra user ``test`` may do all."""
    binary = tool("redis-server", "apt-get install redis-server")
    ca, certificate, key = certificates(folder)
    rules = ACL_FILE.read_text()
    for user, password in PASSWORDS.items():
        assert f">{user.upper()}_PASSWORD" in rules
        rules = rules.replace(f">{user.upper()}_PASSWORD", f">{password}")
    users = folder / "users.acl"
    # An ACL file has no comments for Redis.
    kept = [line for line in rules.splitlines() if line.strip() and not line.startswith("#")]
    users.write_text("\n".join([*kept, "user test on >test ~* &* +@all"]) + "\n")
    port = free_port()
    # The shipped configuration, on this test's files and port.
    text = (
        CONFIGURATION.read_text()
        .replace("/etc/redis/users.acl", str(users))
        .replace("tls-port 6380", f"tls-port {port}")
    )
    for file in (ca, certificate, key):
        assert f"/etc/redis/tls/{file.name}" in text
        text = text.replace(f"/etc/redis/tls/{file.name}", str(file))
    configuration = folder / "redis.conf"
    configuration.write_text(f"{text}\nbind 127.0.0.1\ndir {folder}\n")
    server = SecureServer(port, ca)
    with running_redis([binary, configuration], folder / "redis.log", lambda: administrator(server)):
        yield server


def administrator(server: SecureServer) -> redis.Redis:
    """A connection that may do everything, for the test itself."""
    return redis.Redis(
        host="127.0.0.1", port=server.port, username="test", password="test", ssl=True, ssl_ca_certs=str(server.ca)
    )


def refusals(server: SecureServer) -> list[str]:
    """What the ACL forbade so far: ``user: command or key``."""
    return [
        f"{entry['username']}: {entry['reason']} {entry['object']} ({entry['context']})"
        for entry in administrator(server).acl_log(128)
        if entry["username"] != "test"
    ]
