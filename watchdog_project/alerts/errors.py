"""A no to an operator, with the reason."""

from __future__ import annotations


class AlertRefused(ValueError):
    """What was asked cannot be done; `detail` is one sentence, `code` stable, `status` HTTP's."""

    def __init__(self, code: str, detail: str, status: int = 409) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.status = status
