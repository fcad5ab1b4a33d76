"""Every address of the product, and what the apps are handed of each other."""

from __future__ import annotations

from django.contrib import admin
from django.urls import URLPattern, include, path, re_path
from django.views.generic import RedirectView
from rest_framework.views import APIView

from identity.api import identity_urls
from locks.api import lock_urls
from watchdog_project.alerts.api import alert_urls
from watchdog_project.api import (
    BadgeView,
    DocsView,
    HealthView,
    ReadyView,
    SchemaView,
    StatusView,
)
from watchdog_project.csv_export import export_csv
from watchdog_project.handover import resolve_market, tenure_facts
from watchdog_project.market_page import market_page
from watchdog_project.metrics import MetricsView
from watchdog_project.runbook_page import runbook_page

handler400 = "watchdog_project.error_pages.bad_request"
handler403 = "watchdog_project.error_pages.permission_denied"
handler404 = "watchdog_project.error_pages.not_found"
handler500 = "watchdog_project.error_pages.server_error"


def _at(address: str, view: type[APIView], name: str) -> URLPattern:
    return re_path(rf"^{address}/?$", view.as_view(), name=name)


urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index"), name="home"),
    re_path(r"^admin$", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/market/<path:market>/", admin.site.admin_view(market_page), name="market"),
    path(
        "admin/csv/<slug:app_label>/<slug:model_name>/",
        admin.site.admin_view(export_csv),
        name="csv",
    ),
    path("admin/runbook/", admin.site.admin_view(runbook_page), name="runbook"),
    path("admin/", admin.site.urls),
    _at("healthz", HealthView, "healthz"),
    _at("readyz", ReadyView, "readyz"),
    _at("metrics", MetricsView, "metrics"),
    _at("api/watchdog/status", StatusView, "watchdog-status"),
    _at(r"api/watchdog/badge\.svg", BadgeView, "watchdog-badge"),
    _at("api/schema", SchemaView, "schema"),
    _at("api/docs", DocsView, "docs"),
    path("api/", include(alert_urls())),
    path("api/", include(lock_urls(resolve_market))),
    path("api/", include(identity_urls(tenure_facts))),
]
