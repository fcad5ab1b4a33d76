"""Why a lock request was refused; every refusal is a sentence, a stable code and a status."""

from __future__ import annotations

from typing import Any


class LockRefused(Exception):
    """A request the lock authority answers with no; nothing it asked for was done.

    `status` is the HTTP status, `extra` the problem's further members, `retry_after` seconds.
    """

    def __init__(
        self,
        code: str,
        status: int,
        detail: str,
        extra: dict[str, Any] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.status = status
        self.detail = detail
        self.extra = extra or {}
        self.retry_after = retry_after
