"""Rubbish through every door: no traceback in the log, and no row changed by what is refused."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.contrib.sessions.models import Session
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rest_framework.test import APIClient

from identity.admission import Place
from identity.ingest import ingest_file
from identity.robotlog import is_blank
from locks.models import KillSwitch, LockEvent, LockRecord
from tests.watchdog import console_rows
from tests.watchdog.conftest import ClientOf
from watchdog_project.api_reference import ADDRESSES

pytestmark = pytest.mark.django_db

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=40)
    | st.sampled_from(["", " ", "\x00", "\ud800", "ES", "MES", "%", "'; --", "x" * 2000, 2**63, -1])
)
JSON = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4)
    ),
    max_leaves=12,
)
POSTED = {
    path.replace("{id}", "1"): known.request
    for (method, path), known in ADDRESSES.items()
    if method == "POST"
}


@st.composite
def bodies(draw: st.DrawFn, good: Any) -> bytes:
    """A good body with one thing wrong with it, or bytes that never were one."""
    if draw(st.booleans()) or not isinstance(good, dict):
        return draw(
            st.binary(max_size=200)
            | JSON.map(lambda value: json.dumps(value).encode("utf-8", "replace"))
            | st.sampled_from([b"[" * 9000, b'{"a":' * 9000, b"NaN", b'{"a": 1, "a": 2}', b"\xff"])
        )
    spoilt = dict(good)
    field = draw(st.sampled_from(sorted(good)))
    how = draw(st.sampled_from(["other", "gone", "more"]))
    if how == "gone":
        del spoilt[field]
    elif how == "other":
        spoilt[field] = draw(JSON)
    else:
        spoilt[draw(st.text(max_size=9))] = draw(JSON)
    return json.dumps(spoilt).encode("utf-8", "replace")


def everything_kept() -> dict[str, list[Any]]:
    """All rows, but for the audit of refusals, which is what a refusal is to leave."""
    rows = {
        model._meta.label: model._base_manager.order_by("pk")
        for model in apps.get_models()
        if model is not Session
    }
    rows[LockEvent._meta.label] = LockEvent.objects.filter(code="").order_by("pk")
    return {label: list(found.values()) for label, found in rows.items()}


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing is logged as an error, and no traceback at all."""
    yield
    for record in caplog.get_records("call"):
        assert record.levelno < logging.ERROR, record.getMessage()
        assert not record.exc_info, record.getMessage()


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("address", POSTED)
def test_a_spoilt_body_is_answered_and_changes_nothing_where_it_is_refused(
    client_of: ClientOf, address: str
) -> None:
    console_rows.everything()
    # Nothing is to end while this goes on.
    LockRecord.objects.update(expires_at=timezone.now() + timedelta(hours=1))
    KillSwitch.objects.get_or_create(market="ES")
    client = client_of("operator")
    client.get("/api/locks")

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(bodies(POSTED[address]), st.sampled_from(["application/json", "text/plain", "a/b", ""]))
    def tried(body: bytes, content_type: str) -> None:
        kind = content_type if body.startswith(b"\x00") else "application/json"
        before = everything_kept()
        answer = client.generic("POST", address, body, kind)

        assert answer.status_code < 500
        if answer.status_code >= 400:
            assert answer["Content-Type"] == "application/problem+json"
            assert json.loads(answer.content)["code"]
            assert everything_kept() == before

    tried()


@pytest.mark.usefixtures("quiet")
def test_no_address_with_a_query_fails_at_rubbish(client_of: ClientOf) -> None:
    console_rows.everything()
    client: APIClient = client_of("reader")
    addresses = [path for method, path in ADDRESSES if method == "GET"]
    names = st.sampled_from(
        ["market", "name", "scope", "since", "until", "cursor", "page_size", "symbol", "open",
         "type", "kind", "state", "event_type", "format", "run_id"]
    )  # fmt: skip
    values = st.text(max_size=30) | st.sampled_from(
        ["-1", "0", "1e9", "%00", "ES", "true", "0001-01-01T00:00:00+23:59", "cD0x", "9" * 400]
    )

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(addresses), st.dictionaries(names, values, max_size=3))
    def tried(address: str, query: dict[str, str]) -> None:
        answer = client.get(address, {k: v.encode("utf-8", "replace") for k, v in query.items()})

        assert answer.status_code in (200, 400, 404, 422)

    tried()


LINE = {
    "ts_utc": "2026-03-02T15:00:00Z",
    "event": "ORDER_SUBMITTED",
    "run_id": "0f9c",
    "canonical_instrument": "ES",
    "execution_instrument": "MES",
    "stream_id": "ES1",
    "data": {"order": "buy 1", "fencing_token": 7},
}


@st.composite
def lines(draw: st.DrawFn) -> bytes:
    """A robot's line that was torn, overwritten, or written by something else."""
    written = json.dumps({**LINE, draw(st.sampled_from(sorted(LINE))): draw(JSON)})
    raw = written.encode("utf-8", "replace")
    start, length = draw(st.integers(0, len(raw))), draw(st.integers(0, 40))
    torn = raw[:start] + draw(st.binary(max_size=12)) + raw[start + length :]
    return draw(st.sampled_from([raw, torn])).replace(b"\n", b" ")


@pytest.mark.usefixtures("quiet")
def test_every_line_of_a_file_of_rubbish_is_counted_once(tmp_path: Path) -> None:
    console_rows.a_registry()

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(lines(), min_size=1, max_size=8), st.sampled_from([b"\n", b"\r\n"]))
    def tried(written: list[bytes], end: bytes) -> None:
        # Unlike any other file, so that it is not one that was read before.
        first = json.dumps({**LINE, "run_id": uuid.uuid4().hex}).encode()
        path = tmp_path / f"robot_{uuid.uuid4().hex}.jsonl"
        path.write_bytes(end.join([first, *written]) + end)
        there = sum(not is_blank(line) for line in path.read_bytes().split(b"\n"))

        outcome = ingest_file(path, Place(log=str(path)), timezone.now(), whole=True)

        assert outcome.accepted + outcome.duplicates + outcome.rejections == there

    tried()
