"""What a browser is told it may do with an answer."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

POLICY = "Content-Security-Policy"
# The theme's Alpine makes functions of its attributes' text, which counts as eval; its CSP build
# knows no expressions, so the theme cannot use it. Styles stand in the theme's elements.
PAGES = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self' 'unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
API_PAGES = PAGES.replace(" 'unsafe-eval'", "")
PROGRAMS = "default-src 'none'; frame-ancestors 'none'"
DEVICES = "camera=(), geolocation=(), microphone=(), payment=(), usb=()"


class BrowserHeaders:
    """Middleware: a policy for each kind of answer, unless the view gave its own."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        answer = self.get_response(request)
        headers = answer.headers
        if POLICY not in headers:
            headers[POLICY] = _policy(request.path)
        headers.setdefault("Permissions-Policy", DEVICES)
        return answer


def _policy(path: str) -> str:
    if not path.startswith("/api/"):
        return PAGES
    # The one page of the API, and the script that it loads.
    return API_PAGES if path.startswith("/api/docs") else PROGRAMS
