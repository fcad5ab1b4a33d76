"""Administrators see who logged in and who failed to, and let a name try again."""

from django.apps.registry import Apps
from django.contrib.auth.management import create_permissions
from django.db import migrations
from django.db.models import Q


def grant(apps: Apps, schema_editor) -> None:
    app = apps.get_app_config("axes")
    app.models_module = getattr(app, "models_module", None) or True
    create_permissions(app, apps=apps, verbosity=0)
    permission, group = apps.get_model("auth", "Permission"), apps.get_model("auth", "Group")
    wanted = Q(codename__in=("view_accesslog", "view_accessattempt", "delete_accessattempt"))
    made, _ = group.objects.get_or_create(name="administrator")
    made.permissions.add(*permission.objects.filter(wanted, content_type__app_label="axes"))


class Migration(migrations.Migration):
    dependencies = [
        ("watchdog", "0006_groups_see_the_alerts"),
        ("axes", "0010_accessattemptexpiration"),
    ]

    operations = [migrations.RunPython(grant, migrations.RunPython.noop)]
