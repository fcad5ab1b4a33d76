"""Where messages go: Apprise URLs, kept encrypted, and never shown again.

The key is derived from the installation's SECRET_KEY. After a change of that, SECRET_KEY_FALLBACKS
names the old one until every channel was saved anew.
"""

from __future__ import annotations

import base64
import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from urllib.parse import unquote

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings
from django.db import IntegrityError, transaction

from watchdog_project.alerts.errors import AlertRefused
from watchdog_project.alerts.kinds import Severity
from watchdog_project.alerts.models import Channel

SHOWN_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,64}")
LONGEST_URL = 2000
LONGEST_ERROR = 500
# A service whose messages are shorter than this gets the beginning, and not ten messages.
LONG_ENOUGH_TO_SPLIT = 1000
IDEMPOTENCY_HEADER = "Idempotency-Key"
# Apprise fills its list of services at the first question; no thread may see half of it.
_loading = threading.Lock()


class SendFailed(Exception):
    """A message did not arrive, or nobody can say that it did; the message is the reason."""


def add_channel(
    name: str, url: str, now: datetime, least_severity: str = Severity.WARNING.value
) -> Channel:
    """Keep a new channel.

    Raises AlertRefused (400): CHANNEL_NAME, CHANNEL_URL, CHANNEL_SEVERITY.
    """
    name = name.strip()
    if not SHOWN_NAME.fullmatch(name):
        raise AlertRefused("CHANNEL_NAME", "A channel's name is 1 to 64 printable characters.", 400)
    if least_severity not in [one.value for one in Severity if one is not Severity.QUIET]:
        raise AlertRefused(
            "CHANNEL_SEVERITY", "A channel hears of emergency, critical or warning and up.", 400
        )
    channel = Channel(name=name, created_at=now, least_severity=least_severity)
    seal_url(channel, url)
    try:
        with transaction.atomic():
            channel.save()
    except IntegrityError:
        raise AlertRefused(
            "CHANNEL_NAME", f"There is a channel named {name!r} already; choose another name.", 400
        ) from None
    return channel


def seal_url(channel: Channel, url: str) -> None:
    """Put `url` into `channel`, encrypted; raises AlertRefused where no message could go there."""
    url = url.strip()
    channel.service = shown_service(_service_at(url))
    channel.sealed_url = _sealer().encrypt(url.encode()).decode()


def shown_service(service: Any) -> str:
    """What a channel is, without anything secret: its service, and its host where that is none."""
    # For many services the first part of the URL is a token and not a host.
    host = str(service.host or "") if "host" in service.template_tokens else ""
    name = str(service.service_name)
    return f"{name} at {host}"[:64] if host else name[:64]


def send(channel: Channel, title: str, body: str, key: str, severity: str) -> None:
    """Send one message and return when its service took it; raises SendFailed."""
    try:
        url = _sealer().decrypt(channel.sealed_url.encode()).decode()
    except InvalidToken:
        raise SendFailed(
            "The channel's address cannot be read: this installation's SECRET_KEY is another than "
            "when it was entered. Enter the address again."
        ) from None
    with _heard() as said:
        try:
            service = _service_at(url)
            if isinstance(getattr(service, "headers", None), dict):
                service.headers[IDEMPOTENCY_HEADER] = key
            taken = service.notify(
                title=title,
                body=body,
                notify_type=_TYPES.get(severity, "info"),
                body_format="text",
                overflow=_overflow(service),
            )
        except Exception as failure:
            raise SendFailed(
                _without_secrets(f"{type(failure).__name__}: {failure}", url)
            ) from None
    if not taken:
        reason = " ".join(said) or "The service did not take the message, and did not say why."
        raise SendFailed(_without_secrets(reason, url))


def send_test(channel: Channel, now: datetime) -> None:
    """Send a test message, and note how that went; raises SendFailed."""
    body = (
        f"This is a test of the channel {channel.name!r}. Alerts arrive here from now on, "
        f"from the severity {channel.least_severity!r} upwards."
    )
    try:
        send(channel, "Watchdog: test message", body, f"test-{now:%Y%m%dT%H%M%S}", "test")
    except SendFailed as failure:
        note_failure(channel.pk, str(failure), now)
        raise
    note_success(channel.pk, now)


def note_success(channel_id: int, now: datetime) -> None:
    Channel.objects.filter(pk=channel_id).update(last_sent_at=now)


def note_failure(channel_id: int, error: str, now: datetime) -> None:
    Channel.objects.filter(pk=channel_id).update(last_error=error, last_error_at=now)


_TYPES = {
    Severity.EMERGENCY.value: "failure",
    Severity.CRITICAL.value: "failure",
    Severity.WARNING.value: "warning",
}


def get_ready() -> None:
    """Load Apprise's services: half a second, which the first message need not wait for."""
    with _loading:
        _known_schemes()


def _known_schemes() -> Any:
    # Imported late: most processes of this project send nothing.
    from apprise.manager_plugins import NotificationManager

    schemes = NotificationManager()  # type: ignore[no-untyped-call]
    schemes.load_modules()  # type: ignore[no-untyped-call]
    return schemes


def _overflow(service: Any) -> str:
    own = str(service.overflow_mode.value)
    if own != "upstream":
        return own
    return "split" if service.body_maxlen >= LONG_ENOUGH_TO_SPLIT else "truncate"


def _service_at(url: str) -> Any:
    """Apprise's object for this address; raises AlertRefused (CHANNEL_URL, 400) with the reason."""
    from apprise import Apprise

    scheme, separator, _ = url.partition("://")
    form = "An address is an Apprise URL such as json://host/path or mailto://user:password@host"
    if not separator or not url.isprintable() or len(url) > LONGEST_URL:
        raise AlertRefused("CHANNEL_URL", f"{form}; this is none.", 400)
    with _loading, _heard() as said:
        known = scheme.lower() in _known_schemes()
        service = Apprise.instantiate(url, asset=_asset()) if known else None
    if not known:
        raise AlertRefused("CHANNEL_URL", f"No service is known by {scheme[:32]!r}. {form}.", 400)
    if service is None:
        reason = _without_secrets(" ".join(said), url) or "Something in it is missing."
        raise AlertRefused("CHANNEL_URL", f"This address cannot be used. {reason}", 400)
    return service


def _asset() -> Any:
    from apprise import AppriseAsset
    from apprise.common import PersistentStoreMode

    return AppriseAsset(
        app_id="Watchdog",
        app_desc="Watchdog alerts",
        secure_logging=True,
        storage_mode=PersistentStoreMode.MEMORY,
    )


def _sealer() -> MultiFernet:
    secrets = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    return MultiFernet([_fernet(secret) for secret in secrets])


def _fernet(secret: str) -> Fernet:
    derived = HKDF(SHA256(), 32, salt=None, info=b"watchdog channel addresses")
    return Fernet(base64.urlsafe_b64encode(derived.derive(secret.encode())))


@contextmanager
def _heard() -> Iterator[list[str]]:
    """What Apprise says meanwhile, in this thread: it tells why in its log, and only there."""
    said: list[str] = []
    own = threading.get_ident()

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.thread == own:
                said.append(record.getMessage())

    ear = Ear(logging.WARNING)
    logger = logging.getLogger("apprise")
    logger.addHandler(ear)
    try:
        yield said
    finally:
        logger.removeHandler(ear)


def _without_secrets(text: str, url: str) -> str:
    """`text` without any part of `url` that could be one; its host and scheme stay readable."""
    _, _, rest = url.partition("://")
    for part in sorted(re.split(r"[/:@?&=,]", rest), key=len, reverse=True):
        for form in {part, unquote(part)}:
            if len(form) >= 4 and not re.fullmatch(r"[\d.]+|localhost|true|false", form):
                text = text.replace(form, "…")
    return text[:LONGEST_ERROR]
