"""Alerts and messages that were kept long enough are forgotten, a few at a time."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from watchdog_project.alerts.models import Alert, Delivery, DeliveryState

AT_ONCE = 500


def prune_alerts(before: datetime) -> int:
    """Forget what was resolved, or sent, before then; returns how many rows.

    Messages that never arrived go with what is resolved: an operator had that long to see them.
    """
    resolved = Alert.objects.filter(resolved_at__lt=before)
    done = Delivery.objects.filter(
        state__in=(DeliveryState.SENT, DeliveryState.DEAD), created_at__lt=before
    )
    forgotten = 0
    for rows in (done, resolved):
        while chunk := list(rows.values_list("pk", flat=True)[:AT_ONCE]):
            with transaction.atomic():
                deleted, _ = rows.model._default_manager.filter(pk__in=chunk).delete()
            forgotten += deleted
    return forgotten
