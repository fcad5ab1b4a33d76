"""Which form an answer takes."""

from __future__ import annotations

from collections.abc import Sequence

from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request


class OneFormForAll(DefaultContentNegotiation):
    """An address that has one form serves it, whatever the request says that it accepts.

    A robot's HTTP library that asks for `text/html`, or for `application/problem+json` alone,
    must not be refused its lease for that.
    """

    def select_renderer(  # type: ignore[override]
        self,
        request: Request,
        renderers: Sequence[BaseRenderer],
        format_suffix: str | None = None,
    ) -> tuple[BaseRenderer, str]:
        if len(renderers) == 1:
            return renderers[0], str(renderers[0].media_type)
        chosen: tuple[BaseRenderer, str] = super().select_renderer(
            request, renderers, format_suffix
        )
        return chosen
