"""API keys: made once, shown once, kept as a hash; each change of one leaves an audit entry."""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import Error, IntegrityError, transaction
from django.utils import timezone

from canonical_guard.errors import UnknownInstrument
from identity.registry import load_registry
from locks.execution import short_transaction
from watchdog_project.audit import THE_START, Actor, record_act
from watchdog_project.key_memory import MEMORY, forget_key, memory_seconds
from watchdog_project.models import ApiKey, Role

# Later roles may do all that earlier ones may.
RANK = {Role.READER: 0, Role.ROBOT: 1, Role.OPERATOR: 2}
MAX_GRACE = timedelta(days=30)
USE_NOTED_EVERY = 600.0  # seconds

logger = logging.getLogger(__name__)

MOST_NAME = 128
_KEY = re.compile(r"(?P<prefix>[0-9a-f]{8})\.(?P<secret>[A-Za-z0-9_-]{43})")


class ApiKeyRefused(ValueError):
    """A key was not made or not changed; the message is one sentence for an operator."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who makes a request; `prefix` names an API key without giving it away.

    `markets` are the only ones that it may lock, where there are any; `good_until` is when the
    very secret that was sent ends, None where it does not.
    """

    name: str
    prefix: str
    role: Role
    markets: frozenset[str] = frozenset()
    good_until: datetime | None = None

    def may(self, role: str) -> bool:
        return RANK[self.role] >= RANK[Role(role)]


def create_api_key(
    name: str,
    role: str,
    *,
    by: Actor = THE_START,
    markets: Iterable[str] = (),
    expires_at: datetime | None = None,
    now: datetime | None = None,
) -> str:
    """Make a key and return it whole, `prefix.secret`: the only time that it can be read.

    `markets`, in any notation, are the only ones that it may lock; none: all of them.
    Raises ApiKeyRefused for an unknown role or market, an end that is not ahead, and a name that
    is empty, too long, not printable, or taken: also by a revoked key, so that an audit entry
    names one key only.
    """
    now = now or timezone.now()
    name = name.strip()
    # What cannot be printed could make one name look like another, or a line of a log like two.
    if not (0 < len(name) <= MOST_NAME and name.isprintable()):
        raise ApiKeyRefused("A key's name is 1 to 128 printable characters.")
    if role not in Role.values:
        raise ApiKeyRefused(f"There is no role {role!r}; the roles are {', '.join(Role.values)}.")
    if expires_at is not None and expires_at <= now:
        raise ApiKeyRefused(f"The key would end at {expires_at}, which is over already.")
    allowed = canonical_markets(markets)
    prefix, secret = secrets.token_hex(4), secrets.token_urlsafe(32)
    try:
        with transaction.atomic():
            ApiKey.objects.create(
                name=name,
                prefix=prefix,
                secret_hash=_hash(secret),
                role=Role(role),
                markets=allowed,
                expires_at=expires_at,
            )
            told: dict[str, Any] = {"prefix": prefix, "role": role, "markets": allowed}
            if expires_at is not None:
                told["expires_at"] = expires_at.isoformat()
            record_act("API_KEY_CREATED", name, by, now, data=told)
    except IntegrityError:
        raise ApiKeyRefused(
            f"There is a key named {name!r} already, or there was one that is revoked now; "
            "choose another name."
        ) from None
    return f"{prefix}.{secret}"


def rotate_api_key(
    name: str, now: datetime, *, grace: timedelta, by: Actor, reason: str = ""
) -> str:
    """Give a key a new secret and return it whole; the one before is good for `grace` more.

    Prefix, role, markets and end stay, so a lease that was acquired with the one secret is renewed
    with the other. Of two rotations within a grace the first secret ends with the second rotation.
    Raises ApiKeyRefused where the key is not in force, or for a grace below 0 or above 30 days.
    """
    if not timedelta(0) <= grace <= MAX_GRACE:
        raise ApiKeyRefused(f"The old secret stays good for 0 seconds to {MAX_GRACE.days} days.")
    secret = secrets.token_urlsafe(32)
    with transaction.atomic():
        key = _in_force(name, now)
        # Compare and set: of two who rotate at once, one has read a hash that is gone.
        done = ApiKey.objects.filter(pk=key.pk, secret_hash=key.secret_hash, revoked_at=None)
        if not done.update(
            secret_hash=_hash(secret),
            previous_hash=key.secret_hash if grace else "",
            previous_until=now + grace if grace else None,
            rotated_at=now,
        ):
            raise ApiKeyRefused(f"The key {name!r} was changed by somebody else just now.")
        told = {"prefix": key.prefix, "grace_seconds": int(grace.total_seconds())}
        record_act("API_KEY_ROTATED", name, by, now, reason=reason, data=told)
    forget_key(key.prefix)
    return f"{key.prefix}.{secret}"


def revoke_api_key(name: str, now: datetime, *, by: Actor = THE_START, reason: str = "") -> ApiKey:
    """End a key for good: at once in this process, within seconds in every other one.

    Raises ApiKeyRefused where no such key is in force.
    """
    with transaction.atomic():
        revoked = ApiKey.objects.filter(name=name, revoked_at__isnull=True).update(revoked_at=now)
        found = ApiKey.objects.filter(name=name).first()
        if found is None:
            raise _no_such_key(name)
        if not revoked:
            raise ApiKeyRefused(f"The key {name!r} was revoked already, at {found.revoked_at}.")
        record_act("API_KEY_REVOKED", name, by, now, reason=reason, data={"prefix": found.prefix})
    forget_key(found.prefix)
    return found


def list_api_keys() -> Sequence[ApiKey]:
    """Every key, revoked ones too, by name."""
    return list(ApiKey.objects.order_by("name"))


def known_principal(key: str, now: datetime) -> Principal | None:
    """As `principal_of`, and where the key was good seconds ago without asking the database."""
    known = MEMORY.recall(key)
    if known is not None:
        return known
    principal = principal_of(key, now)
    if principal is None:
        return None
    seconds = memory_seconds()
    if principal.good_until is not None:
        seconds = min(seconds, (principal.good_until - now).total_seconds())
    MEMORY.remember(key, principal, seconds)
    if MEMORY.is_due(principal.prefix, USE_NOTED_EVERY):
        _note_use(principal.prefix, now)
    return principal


def _note_use(prefix: str, now: datetime) -> None:
    """A note that cannot be taken in time is not worth a robot's lease."""
    try:
        with short_transaction():
            ApiKey.objects.filter(prefix=prefix).update(last_used_at=now)
    except Error as busy:
        logger.info("The use of key %s was not noted: %s", prefix, busy)


def principal_of(key: str, now: datetime | None = None) -> Principal | None:
    """Who a key belongs to, or None where it is not (or no longer) good; asks the database."""
    now = now or timezone.now()
    shape = _KEY.fullmatch(key)
    if shape is None:
        return None
    found = ApiKey.objects.filter(prefix=shape["prefix"], revoked_at__isnull=True).first()
    if found is None:
        return None
    sent = _hash(shape["secret"])
    ends = [found.expires_at] if found.expires_at else []
    # Both are compared whichever matches, so that the time taken tells nothing.
    current = hmac.compare_digest(found.secret_hash, sent)
    previous = hmac.compare_digest(found.previous_hash or "-" * len(sent), sent)
    if previous and found.previous_until:
        ends.append(found.previous_until)
    elif not current:
        return None
    good_until = min(ends, default=None)
    if good_until is not None and good_until <= now:
        return None
    return Principal(
        name=found.name,
        prefix=found.prefix,
        role=Role(found.role),
        markets=frozenset(found.markets),
        good_until=good_until,
    )


def canonical_markets(symbols: Iterable[str]) -> list[str]:
    """The canonical markets that are meant, sorted; raises ApiKeyRefused for an unknown one."""
    try:
        registry = load_registry()
        return sorted({registry.resolve(symbol).canonical_instrument for symbol in symbols})
    except UnknownInstrument as unknown:
        raise ApiKeyRefused(str(unknown)) from unknown


def _in_force(name: str, now: datetime) -> ApiKey:
    found = ApiKey.objects.filter(name=name).first()
    if found is None:
        raise _no_such_key(name)
    if found.revoked_at is not None:
        raise ApiKeyRefused(f"The key {name!r} was revoked, at {found.revoked_at}; make a new one.")
    if found.expires_at is not None and found.expires_at <= now:
        raise ApiKeyRefused(f"The key {name!r} ended at {found.expires_at}; make a new one.")
    return found


def _no_such_key(name: str) -> ApiKeyRefused:
    return ApiKeyRefused(f"There is no key named {name!r}; `api_key list` shows them all.")


def _hash(secret: str) -> str:
    # 256 random bits need no slow hash: there is nothing to guess.
    return hashlib.sha256(secret.encode()).hexdigest()
