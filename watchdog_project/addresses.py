"""From which address a request came, as far as that can be known."""

from __future__ import annotations

import ipaddress

from django.conf import settings
from django.http import HttpRequest


def client_address(request: HttpRequest) -> str:
    """The caller's address: the connection's, or what the trusted proxies say it was.

    With `WATCHDOG_TRUSTED_PROXIES = n` the last n entries of X-Forwarded-For are those proxies' own
    words, and the first of them is the caller; whatever stands before was written by the caller.
    """
    connected = str(request.META.get("REMOTE_ADDR", ""))
    proxies: int = settings.WATCHDOG_TRUSTED_PROXIES
    forwarded = [part.strip() for part in request.headers.get("X-Forwarded-For", "").split(",")]
    if proxies == 0 or len(forwarded) < proxies:
        return connected
    try:
        return str(ipaddress.ip_address(forwarded[-proxies]))
    except ValueError:
        return connected
