"""The lock authority without HTTP: the client's requests go straight to the services.

It stands where `canonical_guard.client.Authority` stands, so that everything above it is the
robot's own code and everything below it the server's. Django must be set up.
"""

from __future__ import annotations

import threading
from typing import Any

from django.db import connection

from canonical_guard.client import Answer
from locks import services
from locks.acquisition import acquire_lease
from locks.errors import LockRefused
from locks.leases import AcquireRequest, Holder, LockId
from locks.market import ResolveMarket
from locks.serializers import grant_answer

KEY_PREFIX = "0badcafe"


class ServicesAuthority:
    """Answers as the HTTP API does. The timeout is not kept: who asks waits for the database."""

    def __init__(self, resolve_market: ResolveMarket) -> None:
        self.server = "the services"
        self.api_key = None
        self._resolve_market = resolve_market

    def post(self, path: str, body: dict[str, Any], timeout: float = 0.0) -> Answer:
        try:
            return Answer(200, self._answer(path.rpartition("/")[2], body))
        except LockRefused as refused:
            said = {"code": refused.code, "detail": refused.detail, **refused.extra}
            return Answer(refused.status, said, refused.retry_after)
        finally:
            # Renewing threads come and go; what they leave open nobody would close.
            if threading.current_thread() is not threading.main_thread():
                connection.close()

    def _answer(self, action: str, body: dict[str, Any]) -> dict[str, Any]:
        if action == "acquire":
            request = AcquireRequest(key_prefix=KEY_PREFIX, **body)
            return grant_answer(acquire_lease(request, self._resolve_market))
        lock, token = LockId(body["kind"], body["name"], body["scope"]), body["fencing_token"]
        if action == "verify":
            services.verify_token(lock, token)
            return {"valid": True}
        holder = Holder(lock, body["run_id"], body["nonce"], KEY_PREFIX, token)
        if action == "renew":
            renewal = services.renew_lease(holder)
            return {
                "ttl": renewal.ttl,
                "fencing_token": renewal.fencing_token,
                "renewals": renewal.renewals,
                "kill_switch_active": renewal.kill_switch_active,
            }
        was_holder = services.release_lease(holder, crashed=body["reason"] == "crashed")
        return {"released": True, "was_holder": was_holder}
