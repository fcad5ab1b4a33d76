"""Over HTTPS the guard for NinjaTrader talks to a server that is trusted, and to no other."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.certificates import NAME, make_certificate
from tests.guard.authority import KEY
from tests.ninjatrader.conftest import ShortAuthority, StartDriver
from tests.ninjatrader.driver import Refused


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    return make_certificate(tmp_path)[0]


@pytest.fixture
def secure(certificate: Path) -> Iterator[ShortAuthority]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
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
