"""Why identity refused an operator's wish; a sentence and a stable code."""

from __future__ import annotations


class IdentityRefused(Exception):
    """Nothing was changed; `detail` is the sentence for the operator."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
