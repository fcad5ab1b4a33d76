"""The peer of our web rows: Django with nothing but a view, one statement or none."""

from __future__ import annotations

import hashlib
import json
import os

import django
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.urls import path

RENEW = """
UPDATE locks_lockrecord AS lock
SET expires_at = clock_timestamp() + lock.ttl * interval '1 second',
    renewed_at = clock_timestamp(), renewals = lock.renewals + 1
WHERE kind = %(kind)s AND name = %(name)s AND scope = %(scope)s AND state = 'HELD'
  AND fencing_token = %(fencing_token)s AND run_id = %(run_id)s AND nonce_hash = %(nonce_hash)s
  AND expires_at > clock_timestamp() AND key_prefix IN (SELECT prefix FROM watchdog_apikey
    WHERE prefix = %(prefix)s AND secret_hash = %(secret_hash)s AND revoked_at IS NULL)
RETURNING ttl, fencing_token, renewals"""


def renew(request: HttpRequest) -> HttpResponse:
    prefix, _, secret = request.headers["Authorization"].removeprefix("Api-Key ").partition(".")
    body = json.loads(request.body)
    values = {
        **body,
        "prefix": prefix,
        "secret_hash": hashlib.sha256(secret.encode()).hexdigest(),
        "nonce_hash": hashlib.sha256(body["nonce"].encode()).hexdigest(),
    }
    with connection.cursor() as cursor:
        cursor.execute(RENEW, values)
        row = cursor.fetchone()
    if row is None:
        return HttpResponse(status=409)
    told = json.dumps(dict(zip(("ttl", "fencing_token", "renewals"), row, strict=True)))
    return HttpResponse(
        told, content_type="application/json", headers={"Content-Length": str(len(told))}
    )


def nothing(request: HttpRequest) -> HttpResponse:
    return HttpResponse(status=304)


def healthz(request: HttpRequest) -> HttpResponse:
    return HttpResponse("ok")


urlpatterns = [path("renew", renew), path("nothing", nothing), path("healthz", healthz)]

if not settings.configured:
    import environ

    settings.configure(
        ALLOWED_HOSTS=["127.0.0.1"],
        ROOT_URLCONF=__name__,
        MIDDLEWARE=[],
        DATABASES={
            "default": {
                **environ.Env.db_url_config(os.environ["DATABASE_URL"]),
                "CONN_MAX_AGE": None,
            }
        },
        USE_TZ=True,
    )
    django.setup()

application = WSGIHandler()
