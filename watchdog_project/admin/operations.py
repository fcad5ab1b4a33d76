"""What operators do with leases and the kill switch, and what all their acts have in common.

Each act demands the permission to operate and a reason, and is refused where it is too late.
"""

from __future__ import annotations

from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils import timezone
from unfold.admin import ModelAdmin
from unfold.decorators import action
from unfold.enums import ActionVariant

from identity.registry import load_registry
from locks.admin import KillSwitchAdmin, LockRecordAdmin
from locks.kill_switch import set_kill_switch
from locks.leases import LockId
from locks.models import KillSwitch, LockRecord, LockState
from locks.services import revoke_lease
from watchdog_project.admin.confirmation import Act, ReasonForm, confirmed
from watchdog_project.authentication import OPERATE


class OperatedAdmin(ModelAdmin):
    """Offers its acts to who may operate, on rows that they can be done to."""

    change_form_outer_before_template = "watchdog/acts.html"
    # Each act's name -> which rows it can be done to.
    possible: ClassVar[dict[str, Any]] = {}

    def has_operate_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return request.user.has_perm(OPERATE)

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        # They stand on the page itself: the header has room for the badge and the page's name.
        return []

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        acts = self.acts_on(request, object_id) if object_id else []
        context = {**(extra_context or {}), "acts": acts}
        return super().changeform_view(request, object_id, form_url, context)

    def acts_on(self, request: HttpRequest, object_id: str) -> list[dict[str, Any]]:
        """What may be done to this row now, by who asks: address, words and weight of each act."""
        row = self.get_object(request, object_id)
        if row is None or not self.has_operate_permission(request):
            return []
        offered = [self.get_unfold_action(name) for name in self.actions_detail]
        return [
            {
                "title": one.description,
                "icon": one.icon,
                "variant": one.variant.value,
                "url": reverse(f"admin:{one.action_name}", args=[row.pk]),
            }
            for one, name in zip(offered, self.actions_detail, strict=True)
            if self.possible[name](row)
        ]

    def page_of(self, row: Model) -> str:
        meta = self.model._meta
        return reverse(f"admin:{meta.app_label}_{meta.model_name}_change", args=[row.pk])


class TokenForm(ReasonForm):
    """The token that the operator saw: he takes the market from no other tenure."""

    fencing_token = forms.IntegerField(widget=forms.HiddenInput)


@admin.register(LockRecord)
class OperatedLockRecordAdmin(OperatedAdmin, LockRecordAdmin):
    actions_detail = ("revoke",)
    possible = {"revoke": lambda record: record.state in (LockState.HELD, LockState.EXPIRED)}

    @action(
        description="Revoke the lease",
        permissions=["operate"],
        icon="lock_reset",
        variant=ActionVariant.DANGER,
    )
    def revoke(self, request: HttpRequest, object_id: str) -> HttpResponse:
        record = get_object_or_404(LockRecord.objects.defer("nonce_hash"), pk=object_id)
        lock = LockId(record.kind, record.name, record.scope)

        def do(values: dict[str, Any]) -> Model:
            who = request.user.get_username()
            revoke_lease(lock, values["fencing_token"], reason=values["reason"], by=who)
            return record

        return confirmed(self, request, _revoking(record, lock), do, self.page_of(record))


def _revoking(record: LockRecord, lock: LockId) -> Act:
    wait = max(record.lock_delay, record.ttl)
    return Act(
        title=f"Revoke the lease of {lock}?",
        what_happens=(
            "The robot hears of it with its next renewal: its guard then stops it, and kills it "
            "where it does not stop.",
            f"Nobody gets {lock} for {wait:g} s. The next robot is told to reconcile "
            "orders and positions first; until then nobody looks after an open position.",
        ),
        facts=(
            ("Held by", f"{record.execution_instrument or lock} on {record.host or '(no host)'}"),
            ("Run", record.run_id or "(none)"),
            ("Fencing token", str(record.fencing_token)),
            ("Since", f"{timezone.localtime(record.acquired_at):%Y-%m-%d %H:%M:%S %Z}")
            if record.acquired_at
            else ("Since", "(never held)"),
        ),
        confirm="Revoke the lease",
        said=f"Revoked the lease of {lock}, token {record.fencing_token}",
        form_class=TokenForm,
        initial={"fencing_token": record.fencing_token},
    )


class MarketForm(ReasonForm):
    """Which market's orders to stop; all of them unless one is named."""

    market = forms.ChoiceField(required=False, label="Stop orders of")
    field_order = ("market", "reason")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        markets = sorted(load_registry().canonicals)
        choices = [("", "all markets"), *((market, market) for market in markets)]
        self.fields["market"].choices = choices  # type: ignore[attr-defined]


@admin.register(KillSwitch)
class OperatedKillSwitchAdmin(OperatedAdmin, KillSwitchAdmin):
    actions_list = ("engage",)
    actions_detail = ("stop", "release")
    possible = {"stop": lambda switch: not switch.engaged, "release": lambda row: row.engaged}

    @action(
        description="Stop a market's orders",
        permissions=["operate"],
        icon="front_hand",
        variant=ActionVariant.DANGER,
    )
    def engage(self, request: HttpRequest) -> HttpResponse:
        named = request.POST.get("market", request.GET.get("market", ""))
        return self._switch(request, named, engaged=True, form_class=MarketForm)

    @action(
        description="Stop orders",
        permissions=["operate"],
        icon="front_hand",
        variant=ActionVariant.DANGER,
    )
    def stop(self, request: HttpRequest, object_id: str) -> HttpResponse:
        switch = get_object_or_404(KillSwitch, pk=object_id)
        return self._switch(request, switch.market, engaged=True, form_class=ReasonForm)

    @action(description="Allow orders again", permissions=["operate"], icon="play_arrow")
    def release(self, request: HttpRequest, object_id: str) -> HttpResponse:
        switch = get_object_or_404(KillSwitch, pk=object_id)
        return self._switch(request, switch.market, engaged=False, form_class=ReasonForm)

    def _switch(
        self, request: HttpRequest, market: str, *, engaged: bool, form_class: type[ReasonForm]
    ) -> HttpResponse:
        def do(values: dict[str, Any]) -> Model:
            chosen = values.get("market", market)
            who = request.user.get_username()
            set_kill_switch(chosen, engaged=engaged, reason=values["reason"], by=who)
            return KillSwitch.objects.get(market=chosen)

        act = _engaging(market, form_class) if engaged else _releasing(market)
        return confirmed(self, request, act, do, reverse("admin:locks_killswitch_changelist"))


def _engaging(market: str, form_class: type[ReasonForm]) -> Act:
    chosen = form_class is MarketForm
    named = market or "all markets"
    return Act(
        title="Stop orders?" if chosen else f"Stop orders of {named}?",
        what_happens=(
            "No order may be sent any more, and no robot gets a lease. Running robots keep theirs, "
            "so that nobody takes an open position out of their hands: each hears of it with its "
            "next renewal, and its next check before an order is refused.",
            "Orders that are at the broker already stay there.",
        ),
        confirm="Stop orders",
        said=f"Engaged the kill switch for {named}",
        form_class=form_class,
        initial={"market": market},
    )


def _releasing(market: str) -> Act:
    named = market or "all markets"
    still = "" if market == "" else " A switch for all markets that is engaged still forbids them."
    return Act(
        title=f"Allow orders of {named} again?",
        what_happens=(f"Robots may send orders and get leases again at once.{still}",),
        confirm="Allow orders",
        said=f"Released the kill switch for {named}",
        danger=False,
    )
