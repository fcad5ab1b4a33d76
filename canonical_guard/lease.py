"""One tenure as its holder sees it: what was granted, until when, and what the authority says."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from canonical_guard import clock
from canonical_guard.client import REQUEST_TIMEOUT, Answer, Authority
from canonical_guard.errors import (
    CanonicalMarketAlreadyActive,
    GuardError,
    InvalidConfiguration,
    KillSwitchEngaged,
    LeaseLost,
    LockAuthorityUnavailable,
    MappingDrift,
    Unanswered,
    UnknownInstrument,
)
from canonical_guard.hostlock import told_of
from canonical_guard.terms import LeaseTerms

ACQUIRE_TRIES = 2
RELEASE_TRIES = 2
KIND = "canonical_market"


@dataclass(frozen=True, slots=True)
class Grant:
    """The authority's yes. `asked_at` is the holder's clock before the request was first sent."""

    canonical_instrument: str
    execution_instrument: str
    name: str
    scope: str
    run_id: str
    nonce: str
    fencing_token: int
    takeover: bool
    terms: LeaseTerms
    asked_at: float

    def identity(self) -> dict[str, Any]:
        """The body of renew and release."""
        return {
            "kind": KIND,
            "name": self.name,
            "scope": self.scope,
            "run_id": self.run_id,
            "nonce": self.nonce,
            "fencing_token": self.fencing_token,
        }


@dataclass(frozen=True, slots=True)
class Renewal:
    """A renewal that succeeded; `sent_at` is the holder's clock before it was sent."""

    sent_at: float
    kill_switch_active: bool


def acquire(authority: Authority, request: dict[str, Any]) -> Lease:
    """Ask for the market of `request` (the body of the contract's acquire).

    Asked again with the same nonce when a reply got lost; time counts from the first asking.
    Raises CanonicalMarketAlreadyActive, KillSwitchEngaged, UnknownInstrument, MappingDrift,
    InvalidConfiguration, and LockAuthorityUnavailable for everything that is not a plain answer.
    """
    asked_at = clock.now()
    reason = ""
    for _ in range(ACQUIRE_TRIES):
        try:
            answer = authority.post("/api/locks/acquire", request)
        except Unanswered as exc:
            reason = str(exc)
            if not exc.sent:
                break
            continue
        if answer.status < 500 and answer.status != 429:
            return Lease(authority, _granted(authority, request, answer, asked_at))
        reason = answer.detail
    raise LockAuthorityUnavailable(
        f"The lock authority at {authority.server} gave no answer that counts ({reason}); "
        "without it nothing is started."
    )


@dataclass(frozen=True, slots=True)
class Lease:
    """A tenure in its holder's hands."""

    authority: Authority
    grant: Grant

    def renew(self, timeout: float) -> Renewal:
        """Renew once. Raises LeaseLost when it is over, Unanswered when it may be tried again."""
        grant, sent_at = self.grant, clock.now()
        answer = self.authority.post("/api/locks/renew", grant.identity(), timeout)
        if answer.status == 429 or answer.status >= 500 or 300 <= answer.status < 400:
            raise Unanswered(f"{answer.code}: {answer.detail}")
        if answer.status != 200:
            raise LeaseLost(f"The lease of {grant.name} is over: {answer.detail}")
        if answer.body.get("fencing_token") != grant.fencing_token:
            raise Unanswered("the answer to a renewal names another fencing token or none")
        ttl = _number(answer.body, "ttl")
        if ttl is None or ttl < grant.terms.ttl:
            raise LeaseLost(
                f"The authority renewed {grant.name} for {ttl} s, less than the "
                f"{grant.terms.ttl:g} s that it granted; that cannot be kept to."
            )
        return Renewal(sent_at, answer.body.get("kill_switch_active") is not False)

    def release(self, reason: str) -> None:
        """Give it back; raises Unanswered where no try succeeded."""
        give_back(self.authority, self.grant.identity(), reason)


def give_back(authority: Authority, identity: dict[str, Any], reason: str) -> None:
    """Release by `Grant.identity()`, as a keeper does it; `reason` is "clean" or "crashed".

    Tried twice, then raises Unanswered; any plain answer means that there is none left to hold.
    """
    body = {**identity, "reason": reason}
    why = ""
    for _ in range(RELEASE_TRIES):
        try:
            answer = authority.post("/api/locks/release", body)
        except Unanswered as exc:
            why = str(exc)
            continue
        if answer.status != 429 and answer.status < 500:
            return
        why = answer.detail
    raise Unanswered(why)


def _granted(
    authority: Authority, request: dict[str, Any], answer: Answer, asked_at: float
) -> Grant:
    if answer.status != 200:
        raise _refusal(authority, request, answer)
    body = answer.body
    token, name, scope = body.get("fencing_token"), body.get("name"), body.get("scope")
    execution = body.get("execution_instrument")
    if not (
        isinstance(token, int)
        and not isinstance(token, bool)
        and token > 0
        and isinstance(name, str)
        and isinstance(scope, str)
        and isinstance(execution, str)
        and body.get("run_id") == request["run_id"]
        and body.get("canonical_instrument") == request["canonical_instrument"]
    ):
        raise LockAuthorityUnavailable(
            f"{authority.server} answered, but not as a lock authority does; check the address."
        )
    grant = Grant(
        canonical_instrument=request["canonical_instrument"],
        execution_instrument=execution,
        name=name,
        scope=scope,
        run_id=request["run_id"],
        nonce=request["nonce"],
        fencing_token=token,
        takeover=body.get("takeover") is not False,
        terms=_terms(body),
        asked_at=asked_at,
    )
    if clock.now() >= asked_at + grant.terms.stop_after:
        raise LockAuthorityUnavailable(f"{name} was granted too late to be used.")
    return grant


def _terms(body: dict[str, Any]) -> LeaseTerms:
    values = {
        name: _number(body, name) for name in ("ttl", "renew_every", "stop_after", "kill_after")
    }
    known = {name: value for name, value in values.items() if value is not None}
    try:
        if len(known) != len(values):
            raise InvalidConfiguration("a duration is missing")
        return LeaseTerms(**known, request_timeout=REQUEST_TIMEOUT)
    except InvalidConfiguration as exc:
        raise LockAuthorityUnavailable(f"The authority's terms cannot be kept to: {exc}") from exc


def _number(body: dict[str, Any], name: str) -> float | None:
    value = body.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _refusal(authority: Authority, request: dict[str, Any], answer: Answer) -> GuardError:
    body, market = answer.body, request["canonical_instrument"]
    retry_after = _number(body, "retry_after")
    if retry_after is None:
        retry_after = answer.retry_after
    if answer.code == "CANONICAL_MARKET_ALREADY_ACTIVE":
        names = {
            "run_id": "active_run_id",
            "host": "active_host",
            "execution_instrument": "active_execution_instrument",
            "since": "active_since",
            "fencing_token": "fencing_token",
        }
        active: dict[str, object] = {ours: body.get(theirs) for ours, theirs in names.items()}
        message = f"{market} is already executed {told_of(active)}; nothing was started."
        return CanonicalMarketAlreadyActive(message, active, retry_after)
    if answer.code == "LOCK_DELAY":
        wait = "soon" if retry_after is None else f"in {math.ceil(retry_after)} s"
        return CanonicalMarketAlreadyActive(
            f"{market} was not given back cleanly and stays closed for a while, so that its last "
            f"holder is surely gone; it is free {wait}. Nothing was started.",
            {},
            retry_after,
        )
    if answer.status == 423 or answer.code == "KILL_SWITCH_ACTIVE":
        return KillSwitchEngaged(f"The kill switch is engaged: {answer.detail}")
    if answer.code == "UNKNOWN_INSTRUMENT":
        return UnknownInstrument(answer.detail)
    if answer.code == "MAPPING_DRIFT":
        return MappingDrift(answer.detail)
    if answer.code == "ACCOUNT_REQUIRED":
        return InvalidConfiguration(f"{answer.detail} Name it with --account.")
    if answer.status in (401, 403):
        return LockAuthorityUnavailable(
            f"{authority.server} does not accept the API key for locking ({answer.detail})."
        )
    return LockAuthorityUnavailable(
        f"{authority.server} did not grant {market} ({answer.code}: {answer.detail})."
    )
