"""Over HTTPS the guard for NinjaTrader talks to a server that is trusted, and to no other."""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from tests.guard.authority import KEY
from tests.ninjatrader.conftest import ShortAuthority, StartDriver
from tests.ninjatrader.driver import Refused

NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A self-signed one for 127.0.0.1, with its key in the same file."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(NAME)
        .issuer_name(NAME)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "server.pem"
    file.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return file


@pytest.fixture
def secure(certificate: Path) -> Iterator[ShortAuthority]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    running = ShortAuthority(context)
    yield running
    running.stop()


def test_a_trusted_server_is_asked(
    secure: ShortAuthority, certificate: Path, start_driver: StartDriver, root: str, tmp_path: Path
) -> None:
    trusted = tmp_path / ".mono" / "new-certs" / "Trust"
    trusted.mkdir(parents=True)
    # Named as `openssl x509 -hash` does it, which leaves out the sequence around the parts.
    digest = hashlib.sha1(NAME.public_bytes()[2:], usedforsecurity=False).digest()
    name = f"{int.from_bytes(digest[:4], 'little'):08x}.0"
    (trusted / name).write_bytes(certificate.read_bytes())
    driver = start_driver(XDG_CONFIG_HOME=str(tmp_path))
    assert driver.acquire("ES", server=secure.url, key=KEY, root=root)["fencing_token"] == 1
    driver.call("release")


def test_a_server_that_nobody_vouches_for_is_not_told_the_key(
    secure: ShortAuthority, start_driver: StartDriver, root: str, tmp_path: Path
) -> None:
    driver = start_driver(XDG_CONFIG_HOME=str(tmp_path))
    with pytest.raises(Refused, match="TrustFailure") as refused:
        driver.acquire("ES", server=secure.url, key=KEY, root=root)
    assert refused.value.code == "LOCK_AUTHORITY_UNAVAILABLE"
    assert secure.requests == []
