"""The lease's transitions: one compare-and-set statement each, with its tenure and audit event.

SQL, because the ORM can neither ask the database's clock nor write all three in one statement. The
texts are the same for both databases but for the fragments of a `Dialect`; `execution` runs them.
Parameters: `kind`, `name`, `scope` say which lock; the others are named after their columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Dialect:
    """Where the databases differ. `clock` and `lock` are the moment and the changed row.

    `update`, `source` and `this` are how a transition begins, and find the row: `lock` stands for
    it there, as it is when nobody else can change it any more.
    """

    clock: str
    lock: str
    update: str
    source: str
    this: str
    after: str
    later: str
    earlier: str
    json_object: str
    json_bool: str
    json_time: str
    to_json: str
    server: str
    server_then: str


THIS = "lock.kind = %(kind)s AND lock.name = %(name)s AND lock.scope = %(scope)s"

# clock_timestamp(): now() stands still from the start of the transaction, so that after the wait
# for a row lock it would grant leases that are dead already. `held` is the row, locked: in its
# newest version, which need not be the one that the statement's snapshot would find.
POSTGRES_CLOCK = "clock AS MATERIALIZED (SELECT clock_timestamp() AS now)"
POSTGRES_CLOCK_AFTER_WAIT = (
    "clock AS MATERIALIZED (SELECT clock_timestamp() AS now{clock_with} FROM held)"
)
POSTGRES = Dialect(
    clock="clock",
    lock="lock",
    update="UPDATE locks_lockrecord AS record",
    source="FROM held AS lock, clock",
    this="record.id = lock.id",
    after="{moment} + ({seconds}) * interval '1 second'",
    later="greatest",
    earlier="least",
    json_object="jsonb_build_object",
    json_bool="{value}",
    json_time="{value}",
    to_json="CAST({value} AS jsonb)",
    # The cluster, its timeline (new with each promotion, at once) and the table itself (new with
    # each restore of a dump). While it recovers a server has no place in the log, and this fails.
    server="(SELECT system_identifier FROM pg_control_system())"
    " || '/' || left(pg_walfile_name(pg_current_wal_lsn()), 8)"
    " || '/' || CAST('locks_lockrecord'::regclass AS oid)",
    server_then="clock.server",
)

# The text that Django writes for a time, so that both compare as they should.
SQLITE_TIME = "%%Y-%%m-%%d %%H:%%M:%%f000"
SQLITE_NOW = f"SELECT strftime('{SQLITE_TIME}', 'now')"
SQLITE = Dialect(
    clock="(SELECT %(now)s AS now) AS clock",
    lock="(SELECT * FROM locks_lockrecord"
    " WHERE kind = %(kind)s AND name = %(name)s AND scope = %(scope)s) AS lock",
    update="UPDATE locks_lockrecord AS lock",
    source="FROM (SELECT %(now)s AS now) AS clock",
    this=THIS,
    after=f"strftime('{SQLITE_TIME}', {{moment}}, ({{seconds}}) || ' seconds')",
    later="max",
    earlier="min",
    json_object="json_object",
    json_bool="json(CASE WHEN {value} THEN 'true' ELSE 'false' END)",
    json_time="replace({value}, ' ', 'T') || '+00:00'",
    to_json="{value}",
    # A file says nothing of which copy of itself it is.
    server="'sqlite'",
    server_then="'sqlite'",
)


@dataclass(frozen=True, slots=True)
class Transition:
    """`update` changes the row or, where its condition does not hold, nothing at all; `history`
    is written only when it did. `contended` says when the row is worth waiting for; `reads` are the
    columns (and KILL_SWITCH) that are read back. `asks_others`: its condition looks at more than
    the row, and has to see that as it is after the wait.
    `clock_with` is what PostgreSQL reads together with the clock.
    """

    update: str
    contended: str
    reads: tuple[str, ...]
    clock_with: str = ""
    history: tuple[str, ...] = ()
    asks_others: bool = False


BY_HOLDER = (
    "lock.state = 'HELD' AND lock.fencing_token = %(fencing_token)s"
    " AND lock.run_id = %(run_id)s AND lock.nonce_hash = %(nonce_hash)s"
    " AND lock.key_prefix = %(key_prefix)s"
)
# Both rows, the market's and the one for all, must be there and say released.
KILL_SWITCH_RELEASED = (
    "((SELECT count(*) FROM locks_killswitch AS switch"
    " WHERE switch.market IN ('', %(name)s) AND NOT switch.engaged) = 2)"
)
KILL_SWITCH = "kill_switch_released"
PAIR_ENDED = (
    "EXISTS (SELECT 1 FROM locks_tenure AS tenure WHERE tenure.lock_id = lock.id"
    " AND tenure.run_id = %(run_id)s AND tenure.nonce_hash = %(nonce_hash)s"
    " AND tenure.ended_at IS NOT NULL)"
)
# What a server may have granted and lost before it was replaced lies below the next epoch's tokens.
TOKENS_AN_EPOCH = 2**32
# Nothing can be left of the old holder: he stops by his own clock within one TTL.
DELAY = "{d.later}(lock.lock_delay, lock.ttl)"


class Statements:
    """Every transition and question, in the words of one database.

    `columns`: those of the lock record, in the order in which questions read them.
    """

    def __init__(self, dialect: Dialect, columns: Sequence[str]) -> None:
        self.dialect = dialect
        self.columns = tuple(columns)
        self.grant = self._grant()
        self.renew = self._renew()
        self.release = self._release()
        self.revoke = self._revoke()
        self.expire = self._expire()

    def _after(self, seconds: str, moment: str = "clock.now") -> str:
        return self.dialect.after.format(moment=moment, seconds=seconds)

    def _grant(self) -> Transition:
        return Transition(
            update=f"""
{self.dialect.update}
SET state = 'HELD', takeover = (lock.dirty OR lock.epoch <> epoch.number), epoch = epoch.number,
    fencing_token = lock.fencing_token + 1 + (epoch.number - lock.epoch) * {TOKENS_AN_EPOCH},
    run_id = %(run_id)s, nonce_hash = %(nonce_hash)s, key_prefix = %(key_prefix)s,
    execution_instrument = %(execution_instrument)s, account = %(account)s,
    host = %(host)s, boot_id = %(boot_id)s, pid = %(pid)s, lock_file_path = %(lock_file_path)s,
    ttl = %(ttl)s, lock_delay = %(lock_delay)s, renewals = 0,
    acquired_at = clock.now, renewed_at = clock.now, expires_at = {self._after("%(ttl)s")},
    free_at = NULL
{self.dialect.source}, locks_authorityepoch AS epoch
WHERE {self.dialect.this}
  AND epoch.server = {self.dialect.server_then}
  AND (epoch.number = 0 OR (epoch.grants_after <= clock.now
       AND {self._after("%(ttl)s + %(lock_delay)s", "epoch.began_at")} <= clock.now))
  AND (lock.state = 'FREE'
       OR (lock.state IN ('EXPIRED', 'REVOKED') AND lock.free_at <= clock.now))
  AND NOT {PAIR_ENDED}
  AND (NOT %(obeys_kill_switch)s OR {KILL_SWITCH_RELEASED})""",
            # A contender never queues for the row of a holder who is alive.
            contended=f"{THIS} AND (lock.state <> 'HELD' OR lock.expires_at <= clock_timestamp())",
            reads=("fencing_token", "run_id", "execution_instrument", "ttl", "takeover"),
            clock_with=f", {self.dialect.server} AS server",
            history=(
                self._tenure_begins(),
                self._event(
                    "CANONICAL_MARKET_LOCK_ACQUIRED",
                    f"'takeover', {self.dialect.json_bool.format(value='lock.takeover')},"
                    " 'ttl', lock.ttl, 'account', lock.account, 'boot_id', lock.boot_id,"
                    " 'pid', lock.pid, 'lock_file_path', lock.lock_file_path,"
                    " 'key_prefix', lock.key_prefix",
                ),
            ),
            asks_others=True,
        )

    def _renew(self) -> Transition:
        # No event: a tenure counts its renewals, and the row says when the last one was.
        return Transition(
            update=f"""
{self.dialect.update}
SET expires_at = {self._after("lock.ttl")}, renewed_at = clock.now, renewals = lock.renewals + 1
{self.dialect.source}
WHERE {self.dialect.this} AND {BY_HOLDER} AND lock.expires_at > clock.now""",
            contended=f"{THIS} AND {BY_HOLDER}",
            reads=("fencing_token", "ttl", "renewals", KILL_SWITCH),
        )

    def _release(self) -> Transition:
        return Transition(
            update=f"""
{self.dialect.update}
SET state = 'FREE', dirty = %(crashed)s, free_at = NULL
{self.dialect.source}
WHERE {self.dialect.this} AND {BY_HOLDER} AND lock.expires_at > clock.now""",
            contended=f"{THIS} AND {BY_HOLDER}",
            reads=("fencing_token",),
            history=(
                self._tenure_ends("%(end)s"),
                self._event(
                    "CANONICAL_MARKET_LOCK_RELEASED",
                    f"'reason', CAST(%(reason)s AS text), 'renewals', lock.renewals,"
                    f" 'held_since', {self.dialect.json_time.format(value='lock.acquired_at')}",
                ),
            ),
        )

    def _revoke(self) -> Transition:
        return Transition(
            update=f"""
{self.dialect.update}
SET state = 'REVOKED', fencing_token = lock.fencing_token + 1, dirty = true,
    free_at = {self._after(DELAY.format(d=self.dialect))}
{self.dialect.source}
WHERE {self.dialect.this} AND lock.state IN ('HELD', 'EXPIRED')
  AND lock.fencing_token = %(fencing_token)s""",
            contended=THIS,
            reads=self.columns,
            history=(
                self._tenure_ends("'revoked'", token="%(fencing_token)s"),
                self._event(
                    "CANONICAL_MARKET_LOCK_REVOKED",
                    "'reason', CAST(%(reason)s AS text),"
                    " 'revoked_by', CAST(%(revoked_by)s AS text),"
                    " 'new_fencing_token', lock.fencing_token",
                    token="%(fencing_token)s",
                ),
            ),
        )

    def _expire(self) -> Transition:
        return Transition(
            update=f"""
{self.dialect.update}
SET state = 'EXPIRED', dirty = true, free_at = {self._after(DELAY.format(d=self.dialect))}
{self.dialect.source}
WHERE {self.dialect.this} AND lock.state = 'HELD' AND lock.expires_at <= clock.now""",
            contended=f"{THIS} AND lock.state = 'HELD' AND lock.expires_at <= clock_timestamp()",
            reads=self.columns,
            history=(
                self._tenure_ends("'expired'"),
                self._event(
                    "CANONICAL_MARKET_LOCK_STALE",
                    f"'expired_at', {self.dialect.json_time.format(value='lock.expires_at')},"
                    " 'renewals', lock.renewals, 'seen_by', CAST(%(seen_by)s AS text)",
                ),
            ),
        )

    def _tenure_begins(self) -> str:
        return f"""
INSERT INTO locks_tenure (lock_id, fencing_token, run_id, nonce_hash, key_prefix,
    execution_instrument, account, host, boot_id, pid, takeover, acquired_at, "end", renewals)
SELECT lock.id, lock.fencing_token, lock.run_id, lock.nonce_hash, lock.key_prefix,
    lock.execution_instrument, lock.account, lock.host, lock.boot_id, lock.pid, lock.takeover,
    lock.acquired_at, '', 0
FROM {self.dialect.lock}"""

    def _tenure_ends(self, end: str, token: str = "lock.fencing_token") -> str:
        # A tenure never outlives its lease, however late its end is seen.
        return f"""
UPDATE locks_tenure AS tenure
SET ended_at = {self.dialect.earlier}(clock.now, lock.expires_at), "end" = {end},
    renewals = lock.renewals
FROM {self.dialect.lock}, {self.dialect.clock}
WHERE tenure.lock_id = lock.id AND tenure.fencing_token = {token} AND tenure.ended_at IS NULL"""

    def _event(self, type_: str, pairs: str, token: str = "lock.fencing_token") -> str:
        return f"""
INSERT INTO locks_lockevent (type, kind, name, scope, run_id, host, fencing_token, code, count,
    at, last_at, data)
SELECT '{type_}', lock.kind, lock.name, lock.scope, lock.run_id, lock.host, {token}, '', 1,
    clock.now, clock.now,
    {self.dialect.json_object}('execution_instrument', lock.execution_instrument, {pairs})
FROM {self.dialect.lock}, {self.dialect.clock}"""

    @property
    def refusal(self) -> str:
        """Audits a refusal, or counts it where the same run was refused so before."""
        return f"""
INSERT INTO locks_lockevent AS event (type, kind, name, scope, run_id, host, fencing_token, code,
    count, at, last_at, data)
SELECT %(type)s, %(kind)s, %(name)s, %(scope)s, %(run_id)s, %(host)s, %(fencing_token)s, %(code)s,
    1, clock.now, clock.now, {self.dialect.to_json.format(value="%(data)s")}
FROM {self.dialect.clock} WHERE true
ON CONFLICT (kind, name, scope, type, run_id, fencing_token, code) WHERE NOT (code = '')
DO UPDATE SET count = event.count + 1, last_at = excluded.last_at"""

    def outcome(self, transition: Transition) -> str:
        """What a transition reads back of the row that it changed."""
        return f"SELECT {_read(transition.reads, 'lock')} FROM {self.dialect.lock}"

    def at_once(self, transition: Transition) -> str:
        """PostgreSQL: the wait, the change, its history and what is read back, in one statement."""
        clock = POSTGRES_CLOCK_AFTER_WAIT.format(clock_with=transition.clock_with)
        begin = f"WITH {held(transition.contended)}, {clock}"
        if not transition.history:
            return f"{begin} {transition.update} RETURNING {_read(transition.reads, 'record')}"
        history = "".join(
            f", history_{number} AS ({statement})"
            for number, statement in enumerate(transition.history)
        )
        changed = f"lock AS ({transition.update} RETURNING record.*)"
        return f"{begin}, {changed}{history} {self.outcome(transition)}"

    @property
    def look(self) -> str:
        """The moment, the switch, false, the epoch and the row; fails on a standby."""
        return f"""
SELECT clock.now, {KILL_SWITCH_RELEASED}, false, {self._epoch}, {self._all}
FROM {self.dialect.lock}, {self.dialect.clock}"""

    @property
    def examine(self) -> str:
        """The same of a lock that was refused, and whether the caller's pair is used up."""
        return f"""
SELECT clock.now, {KILL_SWITCH_RELEASED}, {PAIR_ENDED}, {self._epoch}, {self._all}
FROM locks_lockrecord AS lock, {self.dialect.clock}
WHERE {THIS}"""

    @property
    def _all(self) -> str:
        return ", ".join(f"lock.{column}" for column in self.columns)

    @property
    def _epoch(self) -> str:
        """Whether it is this server's, and where it is not the first: since when, held until."""
        return f"""
EXISTS (SELECT 1 FROM locks_authorityepoch WHERE server = {self.dialect.server}),
(SELECT began_at FROM locks_authorityepoch WHERE number > 0),
(SELECT grants_after FROM locks_authorityepoch WHERE number > 0)"""

    def begin_epoch(self, *, always: bool) -> str:
        """Another server is the authority from now on: hold all grants while what it may not know
        of can last. Changes nothing where the epoch is this server's, unless it is to `always`.

        The first server that ever grants has nothing to wait for.
        """
        held = self._after("(SELECT coalesce(max(ttl) + max(lock_delay), 0) FROM locks_lockrecord)")
        condition = "true" if always else "epoch.server <> excluded.server"
        return f"""
INSERT INTO locks_authorityepoch AS epoch (id, number, server, began_at, grants_after)
SELECT 1, (SELECT coalesce(max(epoch) + 1, 0) FROM locks_lockrecord WHERE fencing_token > 0),
    {self.dialect.server}, clock.now, {held}
FROM {self.dialect.clock} WHERE true
ON CONFLICT (id) DO UPDATE SET number = {self.dialect.later}(epoch.number + 1, excluded.number),
    server = excluded.server, began_at = excluded.began_at, grants_after = excluded.grants_after
WHERE {condition}"""

    @property
    def overdue(self) -> str:
        """Which held leases are past their end."""
        return f"""
SELECT lock.kind, lock.name, lock.scope FROM locks_lockrecord AS lock, {self.dialect.clock}
WHERE lock.state = 'HELD' AND lock.expires_at <= clock.now ORDER BY lock.expires_at"""


def _read(names: Sequence[str], row: str) -> str:
    return ", ".join(
        KILL_SWITCH_RELEASED if name == KILL_SWITCH else f"{row}.{name}" for name in names
    )


def held(contended: str) -> str:
    """PostgreSQL's `held`: the row, once nobody else can change it any more."""
    return (
        "held AS MATERIALIZED (SELECT lock.* FROM locks_lockrecord AS lock"
        f" WHERE {contended} FOR NO KEY UPDATE)"
    )


def wait_for(contended: str, *, shares_kill_switch: bool) -> str:
    """PostgreSQL: a statement that does nothing but wait, for the row's lock and the switch's.

    In either order: nobody who has locked a switch ever waits for a row.
    """
    if not shares_kill_switch:
        return f"WITH {held(contended)} SELECT count(*) FROM held"
    return (
        f"WITH {held(contended)}, switches AS MATERIALIZED ({SHARE_KILL_SWITCH})"
        " SELECT (SELECT count(*) FROM held), (SELECT count(*) FROM switches)"
    )


# PostgreSQL's `lock`, where nothing changes it.
POSTGRES_LOCK = f"lock AS (SELECT * FROM locks_lockrecord AS lock WHERE {THIS})"

# The order in which both rows are locked is the same for everybody.
SHARE_KILL_SWITCH = (
    "SELECT 1 FROM locks_killswitch WHERE market IN ('', %(name)s) ORDER BY market FOR SHARE"
)
