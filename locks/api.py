"""The lock authority over HTTP: thin doors to the services.

`lock_urls(resolve_market)` gives the addresses, to be included under `api/`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from django.db import Error, transaction
from django.urls import URLPattern, re_path
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import exceptions
from rest_framework.generics import ListAPIView
from rest_framework.parsers import JSONParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer, Serializer
from rest_framework.views import APIView

from canonical_guard.errors import UnknownInstrument
from locks import kill_switch, services
from locks.acquisition import acquire_lease
from locks.errors import LockRefused
from locks.leases import AcquireRequest, Holder
from locks.market import ResolveMarket
from locks.models import KillSwitch, LockEvent, LockRecord, Tenure
from locks.refusals import unavailable
from locks.serializers import (
    AcquireBody,
    EventFilter,
    EventRow,
    GrantAnswer,
    KillSwitchBody,
    LockFilter,
    LockRow,
    ReleaseAnswer,
    ReleaseBody,
    RenewAnswer,
    RenewBody,
    RevokeBody,
    SwitchesAnswer,
    SwitchRow,
    TenureFilter,
    TenureRowAnswer,
    VerifyAnswer,
    VerifyBody,
    grant_answer,
)

MAX_BODY_BYTES = 64 * 1024
ROBOT, READER, OPERATOR = "robot", "reader", "operator"

Body = TypeVar("Body", bound=Serializer[Any])


class BodyTooLarge(exceptions.APIException):
    status_code = 413
    default_code = "BODY_TOO_LARGE"
    default_detail = f"A request here has at most {MAX_BODY_BYTES} bytes."


class SmallJSONParser(JSONParser):
    """JSON of a bounded size, whatever its depth, in which each key says one thing."""

    def parse(self, stream: Any, *arguments: Any, **options: Any) -> Any:
        if len(raw := stream.read(MAX_BODY_BYTES + 1)) > MAX_BODY_BYTES:
            raise BodyTooLarge
        try:
            return json.loads(
                raw.decode(), object_pairs_hook=_each_key_once, parse_constant=_no_constant
            )
        except RecursionError:
            raise exceptions.ParseError("It is nested too deeply.") from None
        except ValueError as error:
            raise exceptions.ParseError(f"It is not JSON that can be relied on: {error}") from None


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Two readers of a body must not read two different locks in it."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is given twice")
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


class FailsClosed(APIView):
    """A view whose database errors, in authentication too, are a 503 and never a grant."""

    required_role: ClassVar[dict[str, str]]

    def handle_exception(self, exc: Exception) -> Response:
        if isinstance(exc, Error):
            exc = unavailable()
        return super().handle_exception(exc)


class LockView(FailsClosed):
    parser_classes = [SmallJSONParser]
    resolve_market: ResolveMarket | None = None

    def body(self, form: type[Body], request: Request) -> Body:
        """The request's valid body, or a 400 that says what is wrong with it."""
        filled = form(data=request.data)
        filled.is_valid(raise_exception=True)
        return filled

    def holder(self, form: RenewBody, request: Request) -> Holder:
        body = form.validated_data
        return Holder(
            lock=form.lock(),
            run_id=body["run_id"],
            nonce=body["nonce"],
            key_prefix=request.auth.prefix,  # type: ignore[union-attr]
            fencing_token=body["fencing_token"],
        )

    def resolver(self) -> ResolveMarket:
        if self.resolve_market is None:
            raise RuntimeError("lock_urls() gives this view its resolve_market.")
        return self.resolve_market


class AcquireView(LockView):
    """Ask for a lease, and get its fencing token and durations."""

    required_role = {"POST": ROBOT}

    @extend_schema(request=AcquireBody, responses=GrantAnswer)
    def post(self, request: Request) -> Response:
        body = self.body(AcquireBody, request).validated_data
        principal: Any = request.auth
        asked = AcquireRequest(**body, key_prefix=principal.prefix, key_markets=principal.markets)
        return Response(grant_answer(acquire_lease(asked, self.resolver())))


class KeepingView(LockView):
    """Keeps or ends a lease that is had; a robot that had to wait for its turn would lose it."""

    throttle_classes = []


class RenewView(KeepingView):
    """Prolong a lease that lasts; a 4xx means that it is lost now."""

    required_role = {"POST": ROBOT}

    @extend_schema(request=RenewBody, responses=RenewAnswer)
    def post(self, request: Request) -> Response:
        renewal = services.renew_lease(self.holder(self.body(RenewBody, request), request))
        return Response(RenewAnswer(renewal).data)


class ReleaseView(KeepingView):
    """Give a lease back; asked again, it is a success again."""

    required_role = {"POST": ROBOT}

    @extend_schema(request=ReleaseBody, responses=ReleaseAnswer)
    def post(self, request: Request) -> Response:
        form = self.body(ReleaseBody, request)
        crashed = form.validated_data["reason"] == "crashed"
        was_holder = services.release_lease(self.holder(form, request), crashed=crashed)
        return Response({"released": True, "was_holder": was_holder})


class VerifyView(KeepingView):
    """Whether a fencing token is that of a lease in force, and orders may be sent."""

    required_role = {"POST": ROBOT}

    @extend_schema(request=VerifyBody, responses=VerifyAnswer)
    def post(self, request: Request) -> Response:
        form = self.body(VerifyBody, request)
        services.verify_token(form.lock(), form.validated_data["fencing_token"])
        return Response({"valid": True})


class RevokeView(LockView):
    """Take a lease away from the tenure that the operator saw."""

    required_role = {"POST": OPERATOR}

    @extend_schema(request=RevokeBody, responses=LockRow)
    def post(self, request: Request) -> Response:
        form = self.body(RevokeBody, request)
        record = services.revoke_lease(
            form.lock(),
            form.validated_data["fencing_token"],
            reason=form.validated_data["reason"],
            by=request.auth.name,  # type: ignore[union-attr]
        )
        return Response(LockRow(record, context={"now": services.database_now()}).data)


class KillSwitchView(LockView):
    """No orders: for one market, or for all of them."""

    required_role = {"GET": READER, "POST": OPERATOR}

    @extend_schema(responses=SwitchesAnswer)
    def get(self, request: Request) -> Response:
        switches = KillSwitch.objects.order_by("market")
        return Response(
            {
                "engaged": kill_switch.kill_switch_engaged(),
                "switches": SwitchRow(switches, many=True).data,
            }
        )

    @extend_schema(request=KillSwitchBody, responses=SwitchRow)
    def post(self, request: Request) -> Response:
        body = self.body(KillSwitchBody, request).validated_data
        market = ""
        if body["market"] is not None:
            try:
                market = self.resolver()(body["market"]).canonical_instrument
            except UnknownInstrument as unknown:
                raise LockRefused("UNKNOWN_INSTRUMENT", 422, str(unknown)) from unknown
        switch = kill_switch.set_kill_switch(
            market,
            engaged=body["engaged"],
            reason=body["reason"],
            by=request.auth.name,  # type: ignore[union-attr]
        )
        return Response(SwitchRow(switch).data)


class LockList(FailsClosed, ListAPIView[Any]):
    """Rows of one table, narrowed by the parameters that `filter_class` knows."""

    required_role = {"GET": READER}
    filter_class: type[Serializer[Any]]

    def get_serializer_context(self) -> dict[str, Any]:
        return {**super().get_serializer_context(), "now": services.database_now()}


@extend_schema_view(get=extend_schema(parameters=[LockFilter]))
class LockRecords(LockList):
    """Every lock and who holds it."""

    queryset = LockRecord.objects.all()
    serializer_class: type[BaseSerializer[Any]] = LockRow
    filter_class = LockFilter


@extend_schema_view(get=extend_schema(parameters=[TenureFilter]))
class Tenures(LockList):
    """Who held a lock, with which token, from when to when."""

    queryset = Tenure.objects.select_related("lock")
    serializer_class: type[BaseSerializer[Any]] = TenureRowAnswer
    filter_class = TenureFilter


@extend_schema_view(get=extend_schema(parameters=[EventFilter]))
class LockEvents(LockList):
    """What happened to the locks, and what was refused."""

    queryset = LockEvent.objects.all()
    serializer_class: type[BaseSerializer[Any]] = EventRow
    filter_class = EventFilter


def lock_urls(resolve_market: ResolveMarket) -> list[URLPattern]:
    """Every address of the lock authority, with and without a trailing slash.

    The views stay out of ATOMIC_REQUESTS: a lease statement is a transaction of its own.
    """

    def at(path: str, view: type[APIView], name: str, **options: Any) -> URLPattern:
        made: Callable[..., Any] = view.as_view(**options)
        return re_path(rf"^{path}/?$", transaction.non_atomic_requests(made), name=name)

    return [
        at("locks/acquire", AcquireView, "lock-acquire", resolve_market=resolve_market),
        at("locks/renew", RenewView, "lock-renew"),
        at("locks/release", ReleaseView, "lock-release"),
        at("locks/verify", VerifyView, "lock-verify"),
        at("locks/revoke", RevokeView, "lock-revoke"),
        at("locks/tenures", Tenures, "lock-tenures"),
        at("locks/events", LockEvents, "lock-events"),
        at("locks", LockRecords, "locks"),
        at("kill-switch", KillSwitchView, "kill-switch", resolve_market=resolve_market),
    ]
