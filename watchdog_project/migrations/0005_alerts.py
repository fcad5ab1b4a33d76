
import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('watchdog', '0004_groups_see_the_audit_trail'),
    ]

    operations = [
        migrations.CreateModel(
            name='AlertRule',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(max_length=64, unique=True)),
                ('enabled', models.BooleanField(default=True)),
                ('severity', models.CharField(blank=True, choices=[('emergency', 'emergency'), ('critical', 'critical'), ('warning', 'warning'), ('quiet', 'quiet')], default='', max_length=16)),
                ('hold_seconds', models.PositiveIntegerField(blank=True, help_text='how long it must hold before it is an alert', null=True)),
                ('renotify_seconds', models.PositiveIntegerField(blank=True, help_text='say that it still holds after so long; 0: never', null=True)),
                ('market_hours_only', models.BooleanField(blank=True, help_text='open nothing while the market is known to be closed', null=True)),
            ],
            options={
                'ordering': ['kind'],
            },
        ),
        migrations.CreateModel(
            name='Channel',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=64, unique=True)),
                ('service', models.CharField(editable=False, help_text='what it is, and its host', max_length=64)),
                ('sealed_url', models.TextField(editable=False)),
                ('least_severity', models.CharField(choices=[('emergency', 'emergency'), ('critical', 'critical'), ('warning', 'warning')], default='warning', help_text='nothing less severe is sent there', max_length=16)),
                ('enabled', models.BooleanField(default=True)),
                ('created_at', models.DateTimeField()),
                ('last_sent_at', models.DateTimeField(blank=True, null=True)),
                ('last_error', models.TextField(blank=True, default='')),
                ('last_error_at', models.DateTimeField(blank=True, null=True)),
            ],
            options={
                'ordering': ['name'],
            },
        ),
        migrations.CreateModel(
            name='Alert',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(max_length=64)),
                ('market', models.CharField(blank=True, default='', max_length=16)),
                ('scope', models.CharField(blank=True, default='', max_length=128)),
                ('subject', models.CharField(blank=True, default='', help_text='a pair of runs, a code, a host', max_length=512)),
                ('state', models.CharField(choices=[('pending', 'pending'), ('firing', 'firing'), ('acknowledged', 'acknowledged'), ('snoozed', 'snoozed'), ('resolved', 'resolved')], default='pending', max_length=16)),
                ('severity', models.CharField(choices=[('emergency', 'emergency'), ('critical', 'critical'), ('warning', 'warning'), ('quiet', 'quiet')], max_length=16)),
                ('summary', models.TextField()),
                ('who', models.CharField(blank=True, default='', max_length=1024)),
                ('host', models.CharField(blank=True, default='', max_length=255)),
                ('since', models.DateTimeField(help_text='when the condition began')),
                ('opened_at', models.DateTimeField()),
                ('fired_at', models.DateTimeField(blank=True, null=True)),
                ('resolved_at', models.DateTimeField(blank=True, null=True)),
                ('told_at', models.DateTimeField(blank=True, help_text='when a message of it was written last', null=True)),
                ('held_back', models.CharField(blank=True, default='', help_text='why it sends no messages', max_length=512)),
                ('quiet_until', models.DateTimeField(blank=True, null=True)),
                ('snoozed_until', models.DateTimeField(blank=True, null=True)),
                ('handled_by', models.CharField(blank=True, default='', help_text='who acknowledged or snoozed it', max_length=150)),
                ('handled_reason', models.TextField(blank=True, default='')),
                ('version', models.PositiveIntegerField(default=0, help_text='grows with every change')),
            ],
            options={
                'indexes': [models.Index(condition=models.Q(('resolved_at__isnull', True)), fields=['id'], name='open_alerts'), models.Index(fields=['market', 'opened_at'], name='alert_by_market'), models.Index(fields=['opened_at'], name='alert_by_time')],
                'constraints': [models.UniqueConstraint(condition=models.Q(('resolved_at__isnull', True)), fields=('kind', 'market', 'scope', 'subject'), name='one_open_alert')],
            },
        ),
        migrations.CreateModel(
            name='MaintenanceWindow',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('market', models.CharField(blank=True, default='', help_text='empty: all markets', max_length=16)),
                ('starts_at', models.DateTimeField()),
                ('ends_at', models.DateTimeField()),
                ('timezone', models.CharField(default='America/Chicago', help_text='of the times as they were entered', max_length=64)),
                ('reason', models.TextField()),
                ('emergencies_too', models.BooleanField(default=False, help_text='hold back emergencies as well')),
                ('created_by', models.CharField(blank=True, default='', editable=False, max_length=150)),
                ('ended_early_at', models.DateTimeField(blank=True, editable=False, null=True)),
            ],
            options={
                'ordering': ['-starts_at'],
                'constraints': [models.CheckConstraint(condition=models.Q(('ends_at__gt', models.F('starts_at'))), name='a_window_ends_after_it_starts')],
            },
        ),
        migrations.CreateModel(
            name='AlertStep',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('step', models.CharField(choices=[('opened', 'opened'), ('fired', 'fired'), ('still firing', 'still firing'), ('acknowledged', 'acknowledged'), ('snoozed', 'snoozed'), ('snooze over', 'snooze over'), ('held back', 'held back'), ('no longer held back', 'no longer held back'), ('resolved', 'resolved'), ('passed before it was an alert', 'passed before it was an alert')], max_length=32)),
                ('at', models.DateTimeField()),
                ('by', models.CharField(blank=True, default='', max_length=150)),
                ('reason', models.TextField(blank=True, default='')),
                ('owed', models.BooleanField(default=False)),
                ('told_at', models.DateTimeField(blank=True, null=True)),
                ('alert', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='steps', to='watchdog.alert')),
            ],
            options={
                'indexes': [models.Index(condition=models.Q(('owed', True), ('told_at__isnull', True)), fields=['id'], name='owed_steps')],
            },
        ),
        migrations.CreateModel(
            name='Delivery',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('key', models.UUIDField(editable=False, unique=True)),
                ('severity', models.CharField(choices=[('emergency', 'emergency'), ('critical', 'critical'), ('warning', 'warning'), ('quiet', 'quiet')], max_length=16)),
                ('title', models.CharField(max_length=255)),
                ('body', models.TextField()),
                ('state', models.CharField(choices=[('waiting', 'Waiting'), ('sending', 'Sending'), ('sent', 'Sent'), ('dead', 'Dead')], default='waiting', max_length=16)),
                ('attempts', models.PositiveIntegerField(default=0)),
                ('created_at', models.DateTimeField()),
                ('next_attempt_at', models.DateTimeField()),
                ('claim', models.CharField(blank=True, default='', editable=False, max_length=32)),
                ('claimed_until', models.DateTimeField(blank=True, null=True)),
                ('sent_at', models.DateTimeField(blank=True, null=True)),
                ('last_error', models.TextField(blank=True, default='')),
                ('alerts', models.ManyToManyField(related_name='deliveries', to='watchdog.alert')),
                ('channel', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='deliveries', to='watchdog.channel')),
            ],
            options={
                'verbose_name_plural': 'deliveries',
                'indexes': [models.Index(condition=models.Q(('state__in', ['waiting', 'sending'])), fields=['channel', 'next_attempt_at'], name='deliveries_to_do'), models.Index(fields=['created_at'], name='delivery_by_time')],
            },
        ),
    ]
