from django.db import migrations


def make_global_switch(apps, schema_editor):
    """A missing row reads as engaged, so the switch for all markets is there from the start."""
    apps.get_model("locks", "KillSwitch").objects.get_or_create(
        market="", defaults={"engaged": False}
    )


class Migration(migrations.Migration):
    dependencies = [("locks", "0001_initial")]

    operations = [migrations.RunPython(make_global_switch, migrations.RunPython.noop)]
