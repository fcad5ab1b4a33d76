"""A row for each kind of alert, so that its rule can be found and changed; empty is the default."""

from django.apps.registry import Apps
from django.db import migrations

KINDS = (
    "CONNECTION_LOST", "DATA_STALLED", "DUPLICATE_EXECUTOR", "DUPLICATE_EXECUTOR_BLOCKED",
    "ENGINE_STALLED", "HOST_SILENT", "IDENTITY_STALE", "IDENTITY_VIOLATION", "INGEST_FAILING",
    "KILL_SWITCH_ENGAGED", "LEASE_LOST", "LOCK_STALE", "RESTART_WAITING", "ROBOT_SILENT",
    "STALE_TOKEN_USED", "SWEEP_OVERDUE",
)


def make_rules(apps: Apps, schema_editor) -> None:
    rule = apps.get_model("watchdog", "AlertRule")
    rule.objects.bulk_create([rule(kind=kind) for kind in KINDS], ignore_conflicts=True)


class Migration(migrations.Migration):
    dependencies = [("watchdog", "0011_expected_tasks")]

    operations = [migrations.RunPython(make_rules, migrations.RunPython.noop)]
