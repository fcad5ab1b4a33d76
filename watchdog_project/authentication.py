"""Who may call the API: robots and readers by key, people by the admin's session.

A view says what it demands in `required_role`: a mapping of method to role.
"""

from __future__ import annotations

import ipaddress
import logging
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest
from django.utils import timezone
from rest_framework import authentication, exceptions, permissions
from rest_framework.request import Request

from watchdog_project.addresses import client_address
from watchdog_project.api_keys import Principal, known_principal
from watchdog_project.models import Role
from watchdog_project.throttles import wait_after_wrong_key

if TYPE_CHECKING:
    # REST framework itself is still being imported when its settings ask for these classes.
    from rest_framework.views import APIView

OPERATE = "watchdog.operate"

logger = logging.getLogger(__name__)


class ApiKeyAuthentication(authentication.BaseAuthentication):
    """`Authorization: Api-Key <prefix>.<secret>`; any other scheme is left to others."""

    keyword = "Api-Key"

    def authenticate(self, request: Request) -> tuple[Any, Principal] | None:
        header = request.headers.get("Authorization", "")
        keyword, _, key = header.strip().partition(" ")
        if keyword.lower() != self.keyword.lower():
            return None
        principal = known_principal(key.strip(), timezone.now())
        if principal is None:
            address = client_address(request._request)
            wait = wait_after_wrong_key(address)
            if wait:
                raise exceptions.Throttled(
                    wait, detail="Too many requests with keys that are not good."
                )
            # Neither the key nor any part of it: it may be a good one's, sent wrong.
            logger.warning("A request from %s was refused: its API key is not good.", address)
            raise exceptions.AuthenticationFailed(
                "This API key is not known, or is over, or was revoked: check that it is whole, "
                "<prefix>.<secret>, or ask an operator for a new one.",
                code="INVALID_API_KEY",
            )
        return AnonymousUser(), principal

    def authenticate_header(self, request: Request) -> str:
        return self.keyword


class AdminSessionAuthentication(authentication.SessionAuthentication):
    """The admin's session, CSRF token included. Who is not staff is nobody here."""

    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        found = super().authenticate(request)
        if found is None or not found[0].is_staff:
            return None
        user = found[0]
        # has_perm says yes to every active superuser.
        role = Role.OPERATOR if user.has_perm(OPERATE) else Role.READER
        return user, Principal(name=user.get_username(), prefix=f"user:{user.pk}", role=role)


class HasRequiredRole(permissions.BasePermission):
    """Refuses who is not known, or whose role is below what the view demands of the method."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        principal = request.auth
        if not isinstance(principal, Principal):
            return False
        if not callable(getattr(view, str(request.method).lower(), None)):
            # There is nothing to be allowed, and 405 says so.
            return True
        # A method that nobody wrote a demand for is for operators.
        demanded = demanded_role(view, str(request.method))
        if principal.may(demanded):
            return True
        self.message = (
            f"{request.method} here needs the role {demanded}; "
            f"{principal.name!r} has the role {principal.role.value}."
        )
        return False


class PublicOnLoopback(HasRequiredRole):
    """Also lets in who asks without credentials from this very host, where settings allow it."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        if answers_without_key(request._request):
            return True
        return super().has_permission(request, view)


def demanded_role(view: APIView, method: str) -> str:
    """The role that `view` demands for `method`."""
    demanded: dict[str, str] = getattr(view, "required_role", {})
    return demanded.get("GET" if method in ("HEAD", "OPTIONS") else method, Role.OPERATOR)


def answers_without_key(request: HttpRequest) -> bool:
    """True for a request of this host itself, made without a key, while the settings allow it.

    A proxy on this host makes everybody look local, so a forwarded request never is. A key that
    is sent is always judged: who tests a wrong one must not be told that all is well.
    """
    if not settings.WATCHDOG_PUBLIC_STATUS or "HTTP_AUTHORIZATION" in request.META:
        return False
    if any(header in request.META for header in _FORWARDED):
        return False
    try:
        address = ipaddress.ip_address(request.META.get("REMOTE_ADDR", ""))
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


_FORWARDED = (
    "HTTP_FORWARDED",
    "HTTP_X_FORWARDED_FOR",
    "HTTP_X_FORWARDED_HOST",
    "HTTP_X_FORWARDED_PROTO",
    "HTTP_X_REAL_IP",
    "HTTP_VIA",
)
