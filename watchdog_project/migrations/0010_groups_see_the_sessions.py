"""What came after the groups were made: their members may look at it as at everything else."""

from importlib import import_module

from django.db import migrations

make_groups = import_module("watchdog_project.migrations.0002_operators_groups").make_groups


class Migration(migrations.Migration):
    dependencies = [("watchdog", "0009_market_sessions")]

    operations = [migrations.RunPython(make_groups, migrations.RunPython.noop)]
