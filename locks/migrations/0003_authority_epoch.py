from django.db import migrations, models

# What a grant compares: locks.statements.Dialect.server.
SERVER = {
    "postgresql": "SELECT (SELECT system_identifier FROM pg_control_system())"
    " || '/' || left(pg_walfile_name(pg_current_wal_lsn()), 8)"
    " || '/' || CAST('locks_lockrecord'::regclass AS oid), clock_timestamp()",
    "sqlite": "SELECT 'sqlite', strftime('%Y-%m-%d %H:%M:%f000', 'now')",
}


def begin_the_first_epoch(apps, schema_editor):
    """The database as it is now granted all there is, so nothing has to be waited for."""
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(SERVER[schema_editor.connection.vendor])
        server, now = cursor.fetchone()
        cursor.execute(
            "INSERT INTO locks_authorityepoch (id, number, server, began_at, grants_after)"
            " VALUES (1, 0, %s, %s, %s)",
            [server, now, now],
        )


class Migration(migrations.Migration):
    dependencies = [("locks", "0002_global_kill_switch")]

    operations = [
        migrations.CreateModel(
            name="AuthorityEpoch",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("number", models.BigIntegerField(help_text="0 is the first server's")),
                (
                    "server",
                    models.CharField(
                        help_text="cluster, timeline and table, as it says", max_length=128
                    ),
                ),
                ("began_at", models.DateTimeField()),
                ("grants_after", models.DateTimeField()),
            ],
            options={
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("id", 1)), name="one_authority_epoch"
                    )
                ],
            },
        ),
        migrations.AddField(
            model_name="lockrecord",
            name="epoch",
            field=models.BigIntegerField(
                default=0, db_default=0, help_text="of the last grant; see AuthorityEpoch"
            ),
        ),
        migrations.RunPython(begin_the_first_epoch, migrations.RunPython.noop),
    ]
