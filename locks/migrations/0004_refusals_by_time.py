
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('locks', '0003_authority_epoch'),
    ]

    operations = [
        migrations.AddIndex(
            model_name='lockevent',
            index=models.Index(condition=models.Q(('code', ''), _negated=True), fields=['last_at'], name='refusal_by_last_time'),
        ),
    ]
