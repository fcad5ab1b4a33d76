"""No job runs twice at once: the lease of a periodic task, kept while its block runs."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from django.db import close_old_connections, connection

from canonical_guard.errors import UnknownInstrument
from canonical_guard.terms import LeaseTerms
from locks.acquisition import acquire_lease
from locks.errors import LockRefused
from locks.leases import AcquireRequest, Holder
from locks.market import MarketTerms
from locks.models import LockEvent, LockKind, Tenure
from locks.services import release_lease, renew_lease

logger = logging.getLogger(__name__)

# Leases of jobs are taken by the server itself, not with anybody's API key.
SERVER = "server"


@contextmanager
def job_lease(name: str) -> Iterator[None]:
    """Hold the `pipeline_run` lease of job `name` while the block runs, renewed meanwhile.

    Raises LockRefused where another run holds it, or might still. A lease lost half-way is logged,
    not acted on: the jobs are idempotent, the lease spares them from being in each other's way.
    """
    request = AcquireRequest(
        run_id=uuid.uuid4().hex,
        nonce=secrets.token_hex(16),
        key_prefix=SERVER,
        host=socket.gethostname(),
        pid=os.getpid(),
        kind=LockKind.PIPELINE_RUN,
        name=name,
    )
    grant = acquire_lease(request, _no_market)
    holder = Holder(grant.lock, request.run_id, request.nonce, SERVER, grant.fencing_token)
    over = threading.Event()
    renewals = threading.Thread(
        target=_keep_renewing, args=(holder, grant.terms, over), name=f"lease of {name}"
    )
    renewals.start()
    crashed = True
    try:
        yield
        crashed = False
    finally:
        over.set()
        renewals.join()
        _give_back(holder, crashed=crashed)


def prune_job_history(before: datetime) -> int:
    """Forget tenures and events of jobs that ended before `before`; returns how many rows.

    Jobs come and go every few seconds; what happened on markets is never forgotten here.
    """
    tenures, _ = Tenure.objects.filter(
        lock__kind=LockKind.PIPELINE_RUN, ended_at__lt=before
    ).delete()
    events, _ = LockEvent.objects.filter(kind=LockKind.PIPELINE_RUN, last_at__lt=before).delete()
    return tenures + events


def _keep_renewing(holder: Holder, terms: LeaseTerms, over: threading.Event) -> None:
    try:
        while not over.wait(terms.renew_every):
            close_old_connections()
            try:
                renew_lease(holder)
            except LockRefused as refusal:
                logger.warning("The job %s goes on without its lease: %s", holder.lock, refusal)
                if refusal.status < 500:
                    return
    finally:
        connection.close()


def _give_back(holder: Holder, *, crashed: bool) -> None:
    try:
        release_lease(holder, crashed=crashed)
    except LockRefused as refusal:
        # The work is done all the same, and the lease ends by itself.
        logger.warning("The lease of job %s could not be released: %s", holder.lock, refusal)


def _no_market(symbol: str) -> MarketTerms:
    raise UnknownInstrument(f"A job has no market, so {symbol!r} names nothing.")
