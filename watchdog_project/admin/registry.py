"""The registry's pages, told by the locks which markets nobody may touch now."""

from __future__ import annotations

from django.contrib import admin

from identity.admin.settings import CanonicalInstrumentAdmin, ExecutionInstrumentAdmin
from identity.models import CanonicalInstrument, ExecutionInstrument
from locks.services import market_under_lease


@admin.register(CanonicalInstrument)
class GuardedCanonicalInstrumentAdmin(CanonicalInstrumentAdmin):
    def under_lease(self, canonical: str) -> bool:
        return market_under_lease(canonical)


@admin.register(ExecutionInstrument)
class GuardedExecutionInstrumentAdmin(ExecutionInstrumentAdmin):
    def under_lease(self, canonical: str) -> bool:
        return market_under_lease(canonical)
