"""Template tags of the operator's console."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django import template
from django.contrib.admin.views.main import ChangeList
from django.http import HttpRequest
from django.template import RequestContext
from django.templatetags.static import static
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from django.utils.safestring import SafeString

from watchdog_project.authentication import OPERATE
from watchdog_project.badge import ICON_OF, LOOKS, badge_of
from watchdog_project.csv_export import csv_url
from watchdog_project.market_page import market_url
from watchdog_project.narrowing import date_drill
from watchdog_project.runbook_page import runbook_url

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


@register.simple_tag
def status_icon(look: str) -> SafeString:
    """The drawing of a look; nothing for one that there is not."""
    return ICON_OF.get(str(look).lower(), SafeString(""))


@register.simple_tag
def runbook(section: str) -> str:
    """The address of a section of the runbook."""
    return runbook_url(section)


@register.simple_tag
def market_address(market: str, scope: str = "") -> str:
    """The address of a market's page."""
    return market_url(market, scope)


@register.simple_tag
def alerts_address(pk: int | None = None) -> str:
    """The address of the open alerts, or of one."""
    if pk is None:
        return _address("admin:watchdog_alert_changelist", "?state=open")
    try:
        return reverse("admin:watchdog_alert_change", args=[pk])
    except NoReverseMatch:
        return reverse("admin:index")


@register.simple_tag
def csv_address(changelist: ChangeList) -> str:
    """Where a list is found as CSV; empty where it is not ours."""
    return csv_url(changelist)


@register.inclusion_tag("admin/date_hierarchy.html")
def days_of(changelist: ChangeList) -> dict[str, Any]:
    """A list's links to its years, months and days."""
    return date_drill(changelist)


@register.filter
def seconds(value: float | None) -> str:
    """A duration for the eye: 12 s, 4 min, 3 h, 2 d; unknown is a question mark."""
    if value is None:
        return "?"
    for limit, unit, size in ((120, "s", 1), (7200, "min", 60), (172_800, "h", 3600)):
        if value < limit:
            return f"{int(value // size)} {unit}"
    return f"{int(value // 86_400)} d"


@register.filter
def moment(at: datetime | None) -> str:
    """A time for the eye: of today without its day, of this year without the year."""
    if at is None:
        return "-"
    local, today = timezone.localtime(at), timezone.localdate()
    if local.date() == today:
        return f"{local:%H:%M:%S}"
    if local.year == today.year:
        return f"{local:%b} {local.day}, {local:%H:%M:%S}"
    return f"{local:%Y-%m-%d %H:%M:%S}"
