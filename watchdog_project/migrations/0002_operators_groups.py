"""Who may do what in the admin: three groups to put people into."""

from django.apps.registry import Apps
from django.contrib.auth.management import create_permissions
from django.db import migrations
from django.db.models import Q

LOOKED_AT = ("locks", "identity", "watchdog", "django_celery_beat", "admin")
EVERYTHING = (*LOOKED_AT, "auth")


def make_groups(apps: Apps, schema_editor) -> None:
    # Permissions are made after all migrations; the groups need theirs now.
    for label in EVERYTHING:
        app = apps.get_app_config(label)
        app.models_module = getattr(app, "models_module", None) or True
        create_permissions(app, apps=apps, verbosity=0)
    permission, group = apps.get_model("auth", "Permission"), apps.get_model("auth", "Group")
    looking = Q(content_type__app_label__in=LOOKED_AT, codename__startswith="view_")
    operating = Q(content_type__app_label="watchdog", codename="operate")
    for name, granted in (
        ("viewer", looking),
        ("operator", looking | operating),
        ("administrator", Q(content_type__app_label__in=EVERYTHING)),
    ):
        made, _ = group.objects.get_or_create(name=name)
        made.permissions.add(*permission.objects.filter(granted))


def remove_groups(apps: Apps, schema_editor) -> None:
    group = apps.get_model("auth", "Group")
    group.objects.filter(name__in=("viewer", "operator", "administrator")).delete()


class Migration(migrations.Migration):
    dependencies = [
        ("watchdog", "0001_initial"),
        ("locks", "0002_global_kill_switch"),
        ("identity", "0003_which_registry_judged"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("admin", "0003_logentry_add_action_flag_choices"),
        ("contenttypes", "0002_remove_content_type_name"),
        ("django_celery_beat", "0019_alter_periodictasks_options"),
    ]

    operations = [migrations.RunPython(make_groups, remove_groups)]
