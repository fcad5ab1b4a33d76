"""API keys: made once, shown once, kept as a hash."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import IntegrityError, transaction

from watchdog_project.models import ApiKey, Role

# Later roles may do all that earlier ones may.
RANK = {Role.READER: 0, Role.ROBOT: 1, Role.OPERATOR: 2}

_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,128}")
_KEY = re.compile(r"(?P<prefix>[0-9a-f]{8})\.(?P<secret>[A-Za-z0-9_-]{43})")


class ApiKeyRefused(ValueError):
    """A key was not made or not revoked; the message is one sentence for an operator."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who makes a request; `prefix` names an API key without giving it away."""

    name: str
    prefix: str
    role: Role

    def may(self, role: str) -> bool:
        return RANK[self.role] >= RANK[Role(role)]


def create_api_key(name: str, role: str) -> str:
    """Make a key and return it whole, `prefix.secret`: the only time that it can be read.

    Raises ApiKeyRefused for an unknown role, and for a name that is empty, too long, not
    printable, or taken: also by a revoked key, so that an audit entry names one key only.
    """
    name = name.strip()
    if not _NAME.fullmatch(name):
        raise ApiKeyRefused("A key's name is 1 to 128 printable characters.")
    if role not in Role.values:
        raise ApiKeyRefused(f"There is no role {role!r}; the roles are {', '.join(Role.values)}.")
    prefix, secret = secrets.token_hex(4), secrets.token_urlsafe(32)
    try:
        with transaction.atomic():
            ApiKey.objects.create(
                name=name, prefix=prefix, secret_hash=_hash(secret), role=Role(role)
            )
    except IntegrityError:
        raise ApiKeyRefused(
            f"There is a key named {name!r} already, or there was one that is revoked now; "
            "choose another name."
        ) from None
    return f"{prefix}.{secret}"


def revoke_api_key(name: str, now: datetime) -> ApiKey:
    """End a key for good; its holder is refused from the next request on.

    Raises ApiKeyRefused where no such key is in force.
    """
    revoked = ApiKey.objects.filter(name=name, revoked_at__isnull=True).update(revoked_at=now)
    found = ApiKey.objects.filter(name=name).first()
    if found is None:
        raise ApiKeyRefused(f"There is no key named {name!r}; `api_key list` shows them all.")
    if not revoked:
        raise ApiKeyRefused(f"The key {name!r} was revoked already, at {found.revoked_at}.")
    return found


def list_api_keys() -> Sequence[ApiKey]:
    """Every key, revoked ones too, by name."""
    return list(ApiKey.objects.order_by("name"))


def principal_of(key: str) -> Principal | None:
    """Who a key belongs to, or None where it is not (or no longer) good."""
    shape = _KEY.fullmatch(key)
    if shape is None:
        return None
    found = ApiKey.objects.filter(prefix=shape["prefix"], revoked_at__isnull=True).first()
    if found is None or not hmac.compare_digest(found.secret_hash, _hash(shape["secret"])):
        return None
    return Principal(name=found.name, prefix=found.prefix, role=Role(found.role))


def _hash(secret: str) -> str:
    # 256 random bits need no slow hash: there is nothing to guess.
    return hashlib.sha256(secret.encode()).hexdigest()
