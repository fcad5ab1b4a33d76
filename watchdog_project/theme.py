"""How the admin looks and what its sidebar offers; read by settings."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse_lazy


def _static(path: str) -> Any:
    # Resolved at the request: the addresses of static files are settings too.
    return lambda request: static(path)


def _may_view(permission: str) -> Any:
    def allowed(request: HttpRequest) -> bool:
        return request.user.has_perm(permission)

    return allowed


def _item(
    title: str, icon: str, app: str, model: str, query: str = "", also: str = "/nowhere/"
) -> dict[str, Any]:
    """A list in the sidebar; pages whose address begins with `also` belong to it too."""
    address = reverse_lazy(f"admin:{app}_{model}_changelist")

    def link(request: HttpRequest) -> str:
        return f"{address}{query}"

    return {
        "title": title,
        "icon": icon,
        "link": link if query else address,
        "active": lambda request: request.path.startswith((str(address), also)),
        "permission": _may_view(f"{app}.view_{model}"),
    }


NAVIGATION: list[dict[str, Any]] = [
    {
        "title": "Operations",
        "items": [
            {"title": "Dashboard", "icon": "monitoring", "link": reverse_lazy("admin:index")},
            _item(
                "Markets", "candlestick_chart", "identity", "watchedmarket", also="/admin/market/"
            ),
            _item("Alerts", "notifications_active", "watchdog", "alert", "?state=open"),
            _item("Violations", "gpp_bad", "identity", "violation", "?state=open"),
            _item("Lock records", "lock", "locks", "lockrecord"),
            _item("Kill switch", "front_hand", "locks", "killswitch"),
            {"title": "Runbook", "icon": "menu_book", "link": reverse_lazy("runbook")},
            _item("Maintenance", "event_busy", "watchdog", "maintenancewindow"),
        ],
    },
    {
        "title": "Evidence",
        "separator": True,
        "items": [
            _item("Events", "list_alt", "identity", "identityevent"),
            _item("Lock events", "history", "locks", "lockevent"),
            _item("Tenures", "badge", "locks", "tenure"),
            _item("Runs", "smart_toy", "identity", "robotrun"),
            _item("Streams", "stream", "identity", "stream"),
            _item("Claims", "flag", "identity", "claim"),
            _item("Invariant results", "fact_check", "identity", "invariantresult"),
            _item("Ingest sources", "input", "identity", "ingestsource"),
            _item("Ingest errors", "report", "identity", "ingesterror"),
            _item("Messages", "outgoing_mail", "watchdog", "delivery"),
            _item("Periodic work", "favorite", "watchdog", "taskheartbeat"),
        ],
    },
    {
        "title": "Settings",
        "separator": True,
        "items": [
            _item("Canonical markets", "category", "identity", "canonicalinstrument"),
            _item("Execution instruments", "swap_horiz", "identity", "executioninstrument"),
            _item("Market sessions", "event", "watchdog", "sessionday"),
            _item("Log folders", "folder_open", "identity", "logfolder"),
            _item("Channels", "campaign", "watchdog", "channel"),
            _item("Alert rules", "rule", "watchdog", "alertrule"),
            _item("API keys", "key", "watchdog", "apikey"),
            _item("Schedule", "schedule", "django_celery_beat", "periodictask"),
            _item("Intervals", "timer", "django_celery_beat", "intervalschedule"),
            _item("Users", "person", "auth", "user"),
            _item("Groups", "group", "auth", "group"),
            _item("Log-ins", "login", "axes", "accesslog"),
            _item("Failed log-ins", "no_accounts", "axes", "accessattempt"),
            _item("Audit trail", "policy", "watchdog", "auditentry"),
            _item("Admin history", "manage_history", "admin", "logentry"),
        ],
    },
]

UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "Watchdog",
    "SITE_HEADER": "Watchdog",
    "SITE_SUBHEADER": "Single-executor guard",
    "SITE_URL": None,
    "SITE_ICON": _static("watchdog/watchdog.svg"),
    "SITE_FAVICONS": [
        {
            "rel": "icon",
            "type": "image/svg+xml",
            "href": "watchdog_project.badge.favicon",
        }
    ],
    "ENVIRONMENT_TITLE_PREFIX": "watchdog_project.badge.title_prefix",
    "DASHBOARD_CALLBACK": "watchdog_project.dashboard.dashboard_context",
    "STYLES": [_static("watchdog/badge.css"), _static("watchdog/console.css")],
    "SCRIPTS": [
        _static("watchdog/badge.js"),
        _static("watchdog/dashboard.js"),
        _static("watchdog/widgets.js"),
    ],
    "SHOW_HISTORY": True,
    "SHOW_VIEW_ON_SITE": False,
    "BORDER_RADIUS": "8px",
    "COLORS": {
        # Harbour blue: far from the green, amber and red that carry meaning here. 600 and darker
        # hold white text, 700 is text on white, 400 and 500 are text on the dark ground.
        "primary": {
            "50": "oklch(97.4% .012 235)",
            "100": "oklch(94.2% .026 235)",
            "200": "oklch(88.6% .05 235)",
            "300": "oklch(80.6% .082 236)",
            "400": "oklch(73.2% .104 237)",
            "500": "oklch(66.4% .112 239)",
            "600": "oklch(49.6% .102 242)",
            "700": "oklch(43.4% .09 243)",
            "800": "oklch(37.4% .074 244)",
            "900": "oklch(32.2% .058 245)",
            "950": "oklch(24.4% .044 246)",
        },
    },
    "SIDEBAR": {"show_search": True, "navigation": NAVIGATION},
}
