#!/usr/bin/env python
"""Django's command-line utility for administrative tasks."""

import os
import sys


def main() -> None:
    """Run administrative tasks."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "watchdog_project.settings")
    try:
        from django.core.management import execute_from_command_line
    except ImportError as exc:
        from watchdog_project.bootstrap import start_over_in_own_environment

        start_over_in_own_environment(sys.argv, exc)
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
