"""Who may call the API: robots and readers by key, people by the admin's session.

A view says what it demands in `required_role`: a mapping of method to role.
"""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import AnonymousUser
from rest_framework import authentication, exceptions, permissions
from rest_framework.request import Request
from rest_framework.views import APIView

from watchdog_project.api_keys import Principal, principal_of
from watchdog_project.models import Role


class ApiKeyAuthentication(authentication.BaseAuthentication):
    keyword = "Api-Key"

    def authenticate(self, request: Request) -> tuple[Any, Principal] | None:
        header = request.headers.get("Authorization", "")
        keyword, _, key = header.partition(" ")
        if keyword.lower() != self.keyword.lower():
            return None
        principal = principal_of(key.strip())
        if principal is None:
            raise exceptions.AuthenticationFailed(
                "This API key is not known, or was revoked.", code="INVALID_API_KEY"
            )
        return AnonymousUser(), principal

    def authenticate_header(self, request: Request) -> str:
        return self.keyword


class AdminSessionAuthentication(authentication.SessionAuthentication):
    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        found = super().authenticate(request)
        if found is None or not found[0].is_staff:
            return None
        user = found[0]
        role = Role.OPERATOR if user.is_superuser else Role.READER
        return user, Principal(name=user.get_username(), prefix="session", role=role)


class HasRequiredRole(permissions.BasePermission):
    """Refuses who is not known, or whose role is below what the view demands of the method."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        principal = request.auth
        if not isinstance(principal, Principal):
            return False
        demanded: dict[str, str] = getattr(view, "required_role", {})
        method = "GET" if request.method in ("HEAD", "OPTIONS") else str(request.method)
        # A method that nobody wrote a demand for is for operators.
        return principal.may(demanded.get(method, Role.OPERATOR))
