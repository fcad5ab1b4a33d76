"""The rule of DUPLICATE_INSTANCE_DETECTED; empty is the default."""

from django.apps.registry import Apps
from django.db import migrations


def make_rule(apps: Apps, schema_editor) -> None:
    rule = apps.get_model("watchdog", "AlertRule")
    rule.objects.bulk_create([rule(kind="DUPLICATE_INSTANCE_DETECTED")], ignore_conflicts=True)


class Migration(migrations.Migration):
    dependencies = [("watchdog", "0012_alert_rules")]

    operations = [migrations.RunPython(make_rule, migrations.RunPython.noop)]
