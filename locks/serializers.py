"""What the lock authority's requests and lists look like; strict, and bounded in size."""

from __future__ import annotations

import re
from datetime import UTC, timedelta
from typing import Any

from rest_framework import serializers

from locks.leases import CANONICAL_MARKET, Grant, LockId
from locks.models import KillSwitch, LockEvent, LockEventType, LockKind, LockRecord, LockState
from locks.models import Tenure as TenureRow

MAX_BIGINT = 2**63 - 1


class Text(serializers.CharField):
    """A string and nothing that could be turned into one; without control characters."""

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        if self.max_length is not None and len(data) > self.max_length:
            self.fail("max_length", max_length=self.max_length)
        # Some of them count as white space, which is trimmed.
        if any(character < " " or character == "\x7f" for character in data):
            raise serializers.ValidationError("Control characters are not allowed.")
        return str(super().to_internal_value(data))


class Integer(serializers.IntegerField):
    """A JSON integer of 64 bits; neither `"1"`, `1.0` nor `true`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(min_value=0, max_value=MAX_BIGINT, **options)

    def to_internal_value(self, data: Any) -> int:
        if isinstance(data, bool) or not isinstance(data, int):
            self.fail("invalid")
        return data


class Flag(serializers.BooleanField):
    """`true` or `false`, and no word for them."""

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data


class Moment(serializers.DateTimeField):
    """An ISO 8601 time with a zone."""

    default_error_messages = {"invalid": "This is not an ISO 8601 time with a zone."}

    def to_internal_value(self, value: Any) -> Any:
        # In a query string an unescaped plus is a blank.
        text = re.sub(r" (\d\d:?\d\d)$", r"+\1", value) if isinstance(value, str) else ""
        if not _MOMENT.fullmatch(text):
            self.fail("invalid")
        try:
            # Near the ends of the calendar there is no such time in UTC.
            return super().to_internal_value(text).astimezone(UTC)
        except OverflowError:
            self.fail("invalid")


_MOMENT = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d([.,]\d+)?)?([Zz]|[+-]\d\d:?\d\d)", re.ASCII
)


class Nonce(serializers.RegexField):
    """128 random bits or more, in hex."""

    def __init__(self, **options: Any) -> None:
        super().__init__(r"^[0-9A-Fa-f]{32,128}\Z", max_length=128, write_only=True, **options)
        self.error_messages["invalid"] = "A nonce is 32 to 128 hexadecimal digits."

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return str(super().to_internal_value(data))


def kind_field() -> serializers.ChoiceField:
    return serializers.ChoiceField(LockKind.choices, default=CANONICAL_MARKET)


class AcquireBody(serializers.Serializer[Any]):
    kind = kind_field()
    name = Text(max_length=128, required=False, default="", allow_blank=True)
    execution_instrument = Text(max_length=64, required=False, default="", allow_blank=True)
    canonical_instrument = Text(max_length=16, required=False, default="", allow_blank=True)
    run_id = Text(max_length=128)
    nonce = Nonce()
    account = Text(max_length=128, required=False, default="", allow_blank=True, allow_null=True)
    host = Text(max_length=255)
    boot_id = Text(max_length=64, required=False, default="", allow_blank=True, allow_null=True)
    pid = Integer(required=False, default=None, allow_null=True)
    lock_file_path = Text(
        max_length=1024, required=False, default="", allow_blank=True, allow_null=True
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        market = attrs["kind"] == CANONICAL_MARKET
        demanded = ("execution_instrument", "canonical_instrument") if market else ("name",)
        missing = {
            name: [f"This field is required for a {attrs['kind']}."]
            for name in demanded
            if not attrs[name]
        }
        if missing:
            raise serializers.ValidationError(missing)
        for name in ("account", "boot_id", "lock_file_path"):
            attrs[name] = attrs[name] or ""
        return attrs


class LockBody(serializers.Serializer[Any]):
    kind = kind_field()
    name = Text(max_length=128)
    scope = Text(max_length=128, required=False, default="", allow_blank=True)

    def lock(self) -> LockId:
        """Which lock a valid body is about."""
        body = self.validated_data
        return LockId(body["kind"], body["name"], body["scope"])


class VerifyBody(LockBody):
    fencing_token = Integer()


class RenewBody(VerifyBody):
    run_id = Text(max_length=128)
    nonce = Nonce()


class ReleaseBody(RenewBody):
    reason = serializers.ChoiceField(["clean", "crashed"], default="clean")


class RevokeBody(VerifyBody):
    reason = Text(max_length=1000)


class KillSwitchBody(serializers.Serializer[Any]):
    engaged = Flag()
    market = Text(max_length=64, required=False, default=None, allow_null=True)
    reason = Text(max_length=1000)


class GrantAnswer(serializers.Serializer[Any]):
    kind = serializers.ChoiceField(LockKind.choices)
    name = serializers.CharField()
    scope = serializers.CharField()
    canonical_instrument = serializers.CharField(allow_null=True)
    execution_instrument = serializers.CharField(allow_null=True)
    run_id = serializers.CharField()
    fencing_token = serializers.IntegerField()
    ttl = serializers.FloatField()
    renew_every = serializers.FloatField()
    stop_after = serializers.FloatField()
    kill_after = serializers.FloatField()
    takeover = serializers.BooleanField()


class RenewAnswer(serializers.Serializer[Any]):
    ttl = serializers.FloatField()
    fencing_token = serializers.IntegerField()
    renewals = serializers.IntegerField()
    kill_switch_active = serializers.BooleanField()


class ReleaseAnswer(serializers.Serializer[Any]):
    released = serializers.BooleanField()
    was_holder = serializers.BooleanField()


class VerifyAnswer(serializers.Serializer[Any]):
    valid = serializers.BooleanField()


def grant_answer(grant: Grant) -> dict[str, Any]:
    """A grant as GrantAnswer's members."""
    market = grant.lock.kind == CANONICAL_MARKET
    return {
        "kind": grant.lock.kind,
        "name": grant.lock.name,
        "scope": grant.lock.scope,
        "canonical_instrument": grant.lock.name if market else None,
        "execution_instrument": grant.execution_instrument if market else None,
        "run_id": grant.run_id,
        "fencing_token": grant.fencing_token,
        "ttl": grant.terms.ttl,
        "renew_every": grant.terms.renew_every,
        "stop_after": grant.terms.stop_after,
        "kill_after": grant.terms.kill_after,
        "takeover": grant.takeover,
    }


class LockRow(serializers.ModelSerializer[LockRecord]):
    """A lock record. `expires_in`: seconds, negative while nobody has seen the end yet."""

    expires_in = serializers.SerializerMethodField()

    class Meta:
        model = LockRecord
        fields = [
            "kind", "name", "scope", "state", "fencing_token", "run_id", "key_prefix",
            "execution_instrument", "account", "host", "boot_id", "pid", "lock_file_path",
            "ttl", "lock_delay", "renewals", "takeover", "acquired_at", "renewed_at",
            "expires_at", "expires_in", "free_at",
        ]  # fmt: skip

    def get_expires_in(self, record: LockRecord) -> float | None:
        if record.state != LockState.HELD or record.expires_at is None:
            return None
        left: timedelta = record.expires_at - self.context["now"]
        return round(left.total_seconds(), 3)


class TenureRowAnswer(serializers.ModelSerializer[TenureRow]):
    kind = serializers.CharField(source="lock.kind")
    name = serializers.CharField(source="lock.name")
    scope = serializers.CharField(source="lock.scope")

    class Meta:
        model = TenureRow
        fields = [
            "kind", "name", "scope", "fencing_token", "run_id", "key_prefix",
            "execution_instrument", "account", "host", "boot_id", "pid", "takeover",
            "acquired_at", "ended_at", "end", "renewals",
        ]  # fmt: skip


class EventRow(serializers.ModelSerializer[LockEvent]):
    class Meta:
        model = LockEvent
        fields = [
            "id", "type", "kind", "name", "scope", "run_id", "host", "fencing_token", "code",
            "at", "count", "last_at", "data",
        ]  # fmt: skip


class SwitchRow(serializers.ModelSerializer[KillSwitch]):
    """A kill switch; its market is null where it is the one for all."""

    market = serializers.SerializerMethodField()

    class Meta:
        model = KillSwitch
        fields = ["market", "engaged", "reason", "changed_by", "changed_at"]

    def get_market(self, switch: KillSwitch) -> str | None:
        return switch.market or None


class SwitchesAnswer(serializers.Serializer[Any]):
    engaged = serializers.BooleanField(help_text="for all markets")
    switches = SwitchRow(many=True)


class LockFilter(serializers.Serializer[Any]):
    kind = serializers.ChoiceField(LockKind.choices, required=False)
    name = Text(max_length=128, required=False)
    scope = Text(max_length=128, required=False, allow_blank=True)
    state = serializers.ChoiceField(LockState.choices, required=False)


class TenureFilter(serializers.Serializer[Any]):
    kind = serializers.ChoiceField(LockKind.choices, required=False, source="lock__kind")
    name = Text(max_length=128, required=False, source="lock__name")
    scope = Text(max_length=128, required=False, allow_blank=True, source="lock__scope")
    run_id = Text(max_length=128, required=False)


class EventFilter(serializers.Serializer[Any]):
    kind = serializers.ChoiceField(LockKind.choices, required=False)
    name = Text(max_length=128, required=False)
    scope = Text(max_length=128, required=False, allow_blank=True)
    type = serializers.ChoiceField(LockEventType.choices, required=False)
    run_id = Text(max_length=128, required=False)
    since = Moment(required=False, source="last_at__gte")
