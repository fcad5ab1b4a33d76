from django.apps import AppConfig


class WatchdogConfig(AppConfig):
    name = "watchdog_project"
    label = "watchdog"
    verbose_name = "Watchdog"

    def ready(self) -> None:
        # All three register as they are imported; without the Celery application, a task sent from
        # the web process would look for a broker of nobody's.
        from watchdog_project import celery, checks, schema  # noqa: F401
