"""Template tags of the operator's console."""

from __future__ import annotations

from typing import Any

from django import template
from django.http import HttpRequest
from django.template import RequestContext
from django.templatetags.static import static
from django.urls import NoReverseMatch, reverse

from watchdog_project.authentication import OPERATE
from watchdog_project.badge import LOOKS, badge_of

register = template.Library()


@register.inclusion_tag("watchdog/badge.html", takes_context=True)
def watchdog_badge(context: RequestContext) -> dict[str, Any]:
    """The status badge, as of now. Who has not logged in sees the state and nothing more."""
    request: HttpRequest = context["request"]
    badge = badge_of(request)
    user = getattr(request, "user", None)
    logged_in = bool(user and user.is_active and user.is_staff)
    may_operate = bool(logged_in and user and user.has_perm(OPERATE))
    return {
        "badge": badge,
        "looks": LOOKS.values(),
        "logged_in": logged_in,
        "violations_url": _address("admin:identity_violation_changelist", "?state=open"),
        "kill_switch_url": _address("admin:locks_killswitch_changelist"),
        "stop_url": _address("admin:locks_killswitch_engage") if may_operate else "",
        "poll_url": reverse("watchdog-status" if logged_in else "admin:login"),
        "poll_kind": "status" if logged_in else "page",
        "noscript_css": static("watchdog/noscript.css"),
        "is_popup": context.get("is_popup", False),
    }


def _address(name: str, query: str = "") -> str:
    try:
        return reverse(name) + query
    except NoReverseMatch:
        return reverse("admin:index")


@register.filter
def seconds(value: float | None) -> str:
    """A duration for the eye: 12 s, 4 min, 3 h, 2 d; unknown is a question mark."""
    if value is None:
        return "?"
    for limit, unit, size in ((120, "s", 1), (7200, "min", 60), (172_800, "h", 3600)):
        if value < limit:
            return f"{int(value // size)} {unit}"
    return f"{int(value // 86_400)} d"
