"""API keys: made once, shown once, kept as a hash."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass

from watchdog_project.models import ApiKey, Role

# Later roles may do all that earlier ones may.
RANK = {Role.READER: 0, Role.ROBOT: 1, Role.OPERATOR: 2}


@dataclass(frozen=True, slots=True)
class Principal:
    """Who makes a request; `prefix` names an API key without giving it away."""

    name: str
    prefix: str
    role: Role

    def may(self, role: str) -> bool:
        return RANK[self.role] >= RANK[Role(role)]


def create_api_key(name: str, role: str) -> str:
    """Make a key and return it whole, `prefix.secret`: the only time that it can be read."""
    prefix, secret = secrets.token_hex(4), secrets.token_urlsafe(32)
    ApiKey.objects.create(name=name, prefix=prefix, secret_hash=_hash(secret), role=Role(role))
    return f"{prefix}.{secret}"


def principal_of(key: str) -> Principal | None:
    """Who a key belongs to, or None where it is not (or no longer) good."""
    prefix, _, secret = key.partition(".")
    found = ApiKey.objects.filter(prefix=prefix, revoked_at__isnull=True).first()
    if found is None or not hmac.compare_digest(found.secret_hash, _hash(secret)):
        return None
    return Principal(name=found.name, prefix=found.prefix, role=Role(found.role))


def _hash(secret: str) -> str:
    # 256 random bits need no slow hash: there is nothing to guess.
    return hashlib.sha256(secret.encode()).hexdigest()
