"""The outbox's table."""

from typing import Any, ClassVar

from django.db import migrations, models

from ....jobs.outbox import TABLE


class Migration(migrations.Migration):
    initial = True
    dependencies: ClassVar[list[Any]] = []
    operations: ClassVar[list[Any]] = [
        migrations.CreateModel(
            name="Outbox",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("job_id", models.CharField(max_length=36, unique=True)),
                ("account", models.CharField(max_length=32)),
                ("lane", models.CharField(max_length=4)),
                ("document", models.TextField()),
                ("written_us", models.BigIntegerField()),
            ],
            options={"db_table": TABLE},
        ),
    ]
