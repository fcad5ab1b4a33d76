"""Which request or task a line was logged for. Imported by the settings, so it needs no models."""

from __future__ import annotations

import logging
from contextvars import ContextVar

from celery import current_task

request_id: ContextVar[str] = ContextVar("request_id", default="")


def current_request_id() -> str:
    """The id of the request at hand; empty outside of one."""
    return request_id.get()


class NoTraceOfRefusals(logging.Filter):
    """Who was refused, and where, is a line; how Django came to refuse him is nobody's fault.

    Whoever reaches the port could fill the log with tracebacks otherwise.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        refused = record.name == "django.request" and record.levelno < logging.ERROR
        if refused or record.name.startswith("django.security"):
            record.exc_info = record.exc_text = None
        return True


class Context(logging.Filter):
    """Puts it on the record, for formatters that tell all that a record has."""

    def filter(self, record: logging.LogRecord) -> bool:
        if named := current_request_id():
            record.request_id = named
        if current_task and current_task.request.id:
            record.task = current_task.name
            record.task_id = current_task.request.id
        return True
