"""One page for every act of an operator: what will happen, why he wants it, and only then done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.admin import ModelAdmin
from django.db.models import Model
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse

from identity.errors import IdentityRefused
from locks.errors import LockRefused
from watchdog_project.alerts.errors import AlertRefused

MOST_REASON = 500


class ReasonForm(forms.Form):
    """Whoever comes next will want to know why."""

    reason = forms.CharField(
        max_length=MOST_REASON,
        strip=True,
        widget=forms.Textarea(attrs={"rows": 3, "autofocus": True}),
        error_messages={"required": "Say why; whoever comes next will want to know."},
    )


@dataclass(frozen=True, slots=True)
class Act:
    """What an operator is about to do, in words.

    `what_happens` are sentences, `facts` the lines (name, value) that he decides by; `said` is what
    the audit history says of it, before the reason.
    """

    title: str
    what_happens: Sequence[str]
    confirm: str
    said: str
    facts: Sequence[tuple[str, str]] = ()
    danger: bool = True
    form_class: type[ReasonForm] = ReasonForm
    initial: dict[str, Any] = field(default_factory=dict)


def confirmed(
    model_admin: ModelAdmin[Any],
    request: HttpRequest,
    act: Act,
    do: Callable[[dict[str, Any]], Model],
    back_url: str,
) -> HttpResponse:
    """Ask first; on a POST with a reason, `do` it, note it in the admin's history, and go back.

    `do` gets the form's values and returns the row that it changed. Its refusal is shown on the
    page (409), and nothing is noted.
    """
    form = act.form_class(request.POST if request.method == "POST" else None, initial=act.initial)
    status = 200
    if form.is_valid():
        try:
            changed = do(form.cleaned_data)
        except (AlertRefused, IdentityRefused, LockRefused) as refusal:
            form.add_error(None, refusal.detail)
            status = 409
        else:
            said = f"{act.said}: {form.cleaned_data['reason']}"
            model_admin.log_change(request, changed, said)
            messages.success(request, f"{act.said}.")
            return HttpResponseRedirect(back_url)
    context = {
        **model_admin.admin_site.each_context(request),
        "title": act.title,
        "opts": model_admin.model._meta,
        "act": act,
        "form": form,
        "back_url": back_url,
    }
    return TemplateResponse(request, "watchdog/act.html", context, status=status)
