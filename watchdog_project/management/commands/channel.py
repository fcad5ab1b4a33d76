"""`manage.py channel`: where alerts go. Addresses hold secrets, and are never printed back."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction
from django.utils import timezone

from watchdog_project.alerts.channels import SendFailed, add_channel, send_test
from watchdog_project.alerts.errors import AlertRefused
from watchdog_project.alerts.kinds import Severity
from watchdog_project.alerts.models import Channel
from watchdog_project.audit import at_the_command_line, record_act


class Command(BaseCommand):
    help = "Add, test and list the channels that alerts are sent to."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        add = actions.add_parser("add", help="keep a new channel, its address encrypted")
        add.add_argument("name")
        add.add_argument(
            "url", metavar="APPRISE_URL", help="such as json://host/path; `-` reads it from input"
        )
        loud = [one.value for one in Severity if one is not Severity.QUIET]
        add.add_argument(
            "--least-severity",
            choices=loud,
            default=Severity.WARNING.value,
            help="nothing less severe is sent there; default: warning",
        )
        test = actions.add_parser("test", help="send a test message now, and say how that went")
        test.add_argument("name")
        actions.add_parser("list", help="every channel, without its address")

    def handle(self, *args: Any, action: str, **options: Any) -> None:
        try:
            if action == "add":
                self._add(options["name"], options["url"], options["least_severity"])
            elif action == "test":
                self._test(options["name"])
            else:
                self._list()
        except (AlertRefused, SendFailed) as refused:
            raise CommandError(str(refused)) from None

    def _add(self, name: str, url: str, least_severity: str) -> None:
        now = timezone.now()
        # An argument stands in the shell's history and in the list of processes.
        url = sys.stdin.readline().strip() if url == "-" else url
        with transaction.atomic():
            channel = add_channel(name, url, now, least_severity)
            record_act("CHANNEL_ADDED", channel.name, at_the_command_line(), now)
        self.stdout.write(
            f"Channel {channel.name!r} ({channel.service}) hears of {least_severity} and worse. "
            f"Try it: manage.py channel test {channel.name}"
        )

    def _test(self, name: str) -> None:
        channel = Channel.objects.filter(name=name).first()
        if channel is None:
            raise CommandError(f"There is no channel {name!r}; `channel list` shows them all.")
        send_test(channel, timezone.now())
        self.stdout.write(f"{channel.service} took the test message of {name!r}.")

    def _list(self) -> None:
        for channel in Channel.objects.all():
            self.stdout.write(_line(channel))


def _line(channel: Channel) -> str:
    state = "on " if channel.enabled else "off"
    last = "nothing sent yet"
    if channel.last_sent_at:
        last = f"last sent {timezone.localtime(channel.last_sent_at):%Y-%m-%d %H:%M}"
    if channel.last_error_at and channel.last_error_at >= (
        channel.last_sent_at or channel.last_error_at
    ):
        last = f"FAILING since its last try: {channel.last_error}"
    return f"{state}  {channel.least_severity:<9}  {channel.name}  {channel.service}  {last}"
