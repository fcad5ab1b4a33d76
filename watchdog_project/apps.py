from django.apps import AppConfig


class WatchdogConfig(AppConfig):
    name = "watchdog_project"
    label = "watchdog"
    verbose_name = "Watchdog"
