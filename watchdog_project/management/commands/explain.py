"""Why a market's badge is what it is."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from canonical_guard.errors import UnknownInstrument
from identity.explain import ExplainedViolation, Explanation, explain_market
from identity.reasons import told
from watchdog_project.handover import tenure_facts
from watchdog_project.status import market_named

NO_MARKET = ("", "(no market)")


class Command(BaseCommand):
    help = "Tell why a market's identity has its status, from which evidence, and what mends it."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "market", help='any notation of it; "" for what no market could be told of'
        )
        parser.add_argument("--scope", help="the account, of a market exclusive per account")

    def handle(self, *args: Any, **options: Any) -> None:
        symbol = options["market"]
        try:
            market = "" if symbol.strip() in NO_MARKET else market_named(symbol)
        except UnknownInstrument as unknown:
            raise CommandError(str(unknown)) from None
        now = timezone.now()
        found = explain_market(market, options["scope"], now, tenure_facts)
        self.stdout.write("\n\n".join("\n".join(_lines(one)) for one in found))


def _lines(told_of: Explanation) -> list[str]:
    lines = [f"{told_of.name}: {told_of.status}"]
    lines += [f"  {sentence}" for sentence in told_of.why]
    lines.append("Evidence")
    lines += [f"  {sentence}" for sentence in told_of.evidence]
    if told_of.violations:
        lines.append("Violations")
        for violation in told_of.violations:
            lines += [f"  {line}" for line in _violation_lines(violation)]
    lines.append("What mends it")
    lines += [f"  {sentence}" for sentence in told_of.mends]
    lines.append(f"Runbook: {told_of.runbook}")
    return lines


def _violation_lines(violation: ExplainedViolation) -> list[str]:
    subject = violation.subject or "(no subject)"
    return [
        f"{violation.code} {subject}: {violation.message}",
        f"  no. {violation.id}, {violation.state}; seen {violation.count} times since "
        f"{told(violation.opened_at)}, last {told(violation.last_seen_at)}",
        f"  mended by: {violation.mended_by}",
        f"  runbook: {violation.runbook}",
    ]
