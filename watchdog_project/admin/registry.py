"""The registry's pages, told by the locks which markets nobody may touch now."""

from __future__ import annotations

from django.contrib import admin
from django.core.exceptions import ValidationError

from identity.admin.settings import (
    CanonicalInstrumentAdmin,
    CanonicalInstrumentForm,
    ExecutionInstrumentAdmin,
)
from identity.models import CanonicalInstrument, ExecutionInstrument
from locks.services import market_under_lease
from watchdog_project.calendar_names import CALENDAR_NAMES


class MarketForm(CanonicalInstrumentForm):
    def clean_calendar_key(self) -> str:
        key = str(self.cleaned_data["calendar_key"]).strip()
        if key and key not in CALENDAR_NAMES:
            raise ValidationError(
                f"There is no calendar {key!r}. Name one that another market of its kind has, or "
                "one of pandas-market-calendars; with none it is not known when the market trades."
            )
        return key


@admin.register(CanonicalInstrument)
class GuardedCanonicalInstrumentAdmin(CanonicalInstrumentAdmin):
    form = MarketForm

    def under_lease(self, canonical: str) -> bool:
        return market_under_lease(canonical)


@admin.register(ExecutionInstrument)
class GuardedExecutionInstrumentAdmin(ExecutionInstrumentAdmin):
    def under_lease(self, canonical: str) -> bool:
        return market_under_lease(canonical)
