"""What looks at both apps: who may call the API, and whether the periodic work is alive."""

from __future__ import annotations

from django.db import models


class Role(models.TextChoices):
    READER = "reader"
    ROBOT = "robot"
    OPERATOR = "operator"


class ApiKey(models.Model):
    """A robot's, reader's or operator's way in. The secret is kept as a hash and shown once."""

    name = models.CharField(max_length=128, unique=True)
    prefix = models.CharField(max_length=16, unique=True, editable=False)
    secret_hash = models.CharField(max_length=64, editable=False)
    role = models.CharField(max_length=16, choices=Role, default=Role.ROBOT)
    created_at = models.DateTimeField(auto_now_add=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name = "API key"
        permissions = [("operate", "Can revoke leases and use the kill switch")]

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix})"


class TaskHeartbeat(models.Model):
    """When a periodic task last ran, so that its silence can be seen."""

    task = models.CharField(max_length=128, unique=True)
    interval = models.FloatField(help_text="seconds between two runs")
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    error = models.TextField(blank=True, default="")

    def __str__(self) -> str:
        return self.task
