"""The registry and the log folders: what operators edit."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from unfold.admin import ModelAdmin
from unfold.decorators import display

from identity.models import CanonicalInstrument, ExecutionInstrument, LogFolder


class GuardedForm(forms.ModelForm):  # type: ignore[type-arg]
    """A form that refuses to pull a market from under the robot that executes it."""

    under_lease: ClassVar[Any]

    def refuse_under_lease(self, field: str, canonical: str) -> None:
        if field in self.changed_data and self.under_lease(canonical):
            raise ValidationError(
                {
                    field: f"{canonical} is under a lease or its delay, so this cannot change now. "
                    "Stop its executor, wait until the lock record is free, then save again."
                }
            )


class CanonicalInstrumentForm(GuardedForm):
    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if self.instance.pk:
            self.refuse_under_lease("exclusive_per_account", self.instance.symbol)
        return cleaned

    def clean_symbol(self) -> str:
        return str(self.cleaned_data["symbol"]).strip().upper()


class ExecutionInstrumentForm(GuardedForm):
    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if self.instance.pk:
            before = ExecutionInstrument.objects.select_related("canonical").get(
                pk=self.instance.pk
            )
            self.refuse_under_lease("canonical", before.canonical.symbol)
        return cleaned

    def clean_symbol(self) -> str:
        return str(self.cleaned_data["symbol"]).strip().upper()


class RegistryAdmin(ModelAdmin):
    """The registry, editable but for what a running executor rests on.

    Whoever registers it says, with `under_lease`, which markets are under a lease or a delay:
    leases are not the business of identity.
    """

    actions = None

    def under_lease(self, canonical: str) -> bool:
        raise NotImplementedError("registered without a word on leases")

    def canonical_of(self, obj: Any) -> str:
        raise NotImplementedError

    def get_form(
        self, request: HttpRequest, obj: Model | None = None, change: bool = False, **kwargs: Any
    ) -> Any:
        form = super().get_form(request, obj, change, **kwargs)
        form.under_lease = staticmethod(self.under_lease)
        # A market is removed on its own page, which knows whether it may be.
        if "canonical" in form.base_fields:
            form.base_fields["canonical"].widget.can_delete_related = False
        return form

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> list[str]:
        return ["symbol"] if obj else []

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        if obj is not None and self.under_lease(self.canonical_of(obj)):
            return False
        return super().has_delete_permission(request, obj)


class CanonicalInstrumentAdmin(RegistryAdmin):
    form = CanonicalInstrumentForm
    list_display = ("symbol", "name", "exchange", "products", "exclusive", "lease_ttl")
    list_filter = ("exchange", "exclusive_per_account")
    search_fields = ("symbol", "name", "exchange")
    fieldsets = (
        (None, {"fields": (("symbol", "name"), ("exchange", "calendar_key"))}),
        ("Lease", {"fields": ("exclusive_per_account", "lease_ttl")}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[CanonicalInstrument]:
        return super().get_queryset(request).prefetch_related("execution_instruments")

    def canonical_of(self, obj: CanonicalInstrument) -> str:
        return obj.symbol

    @display(description="Executed as")
    def products(self, market: CanonicalInstrument) -> str:
        return ", ".join(product.symbol for product in market.execution_instruments.all())

    @display(
        description="One executor",
        ordering="exclusive_per_account",
        label={"per account": "info", "everywhere": ""},
    )
    def exclusive(self, market: CanonicalInstrument) -> str:
        return "per account" if market.exclusive_per_account else "everywhere"


class ExecutionInstrumentAdmin(RegistryAdmin):
    form = ExecutionInstrumentForm
    list_display = ("symbol", "canonical", "name", "shown_multiplier")
    list_filter = ("canonical",)
    list_select_related = ("canonical",)
    search_fields = ("symbol", "name", "canonical__symbol")
    autocomplete_fields = ("canonical",)
    fieldsets = ((None, {"fields": (("symbol", "canonical"), ("name", "multiplier"))}),)

    def canonical_of(self, obj: ExecutionInstrument) -> str:
        return obj.canonical.symbol

    @display(description="Multiplier", ordering="multiplier")
    def shown_multiplier(self, product: ExecutionInstrument) -> str:
        return "-" if product.multiplier is None else f"{product.multiplier.normalize():f}"


class LogFolderForm(forms.ModelForm):  # type: ignore[type-arg]
    def clean_path(self) -> str:
        path = Path(self.cleaned_data["path"]).expanduser()
        if not path.is_absolute():
            raise ValidationError("Give the whole path of the folder, from the root.")
        if not path.is_dir():
            raise ValidationError(
                f"There is no folder {path} on the server's host. Create or mount it, then save."
            )
        return str(path)


@admin.register(LogFolder)
class LogFolderAdmin(ModelAdmin):
    form = LogFolderForm
    list_display = ("path", "scope", "host", "active", "scanned_at", "shown_health")
    list_filter = ("active",)
    search_fields = ("path", "host", "scope")
    ordering = ("path",)
    readonly_fields = ("scanned_at", "error")
    fieldsets = (
        (None, {"fields": ("path", ("scope", "host"), "active")}),
        ("Last look", {"fields": ("scanned_at", "error")}),
    )

    @display(
        description="Health",
        label={"failing": "danger", "read": "success", "not read yet": "", "off": ""},
    )
    def shown_health(self, folder: LogFolder) -> str:
        if not folder.active:
            return "off"
        if folder.error:
            return "failing"
        return "read" if folder.scanned_at else "not read yet"
