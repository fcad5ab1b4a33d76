from django.apps import AppConfig


class WatchdogConfig(AppConfig):
    name = "watchdog_project"
    label = "watchdog"
    verbose_name = "Watchdog"

    def ready(self) -> None:
        from watchdog_project import checks, schema  # noqa: F401 both register as they are imported
