"""Settings, from the environment; every default is the embedded single-host installation."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import environ
from django.core.exceptions import ImproperlyConfigured

from watchdog_project.api_reference import TAGS
from watchdog_project.home import local_secret
from watchdog_project.theme import UNFOLD as UNFOLD

env = environ.Env()

BASE_DIR = Path(__file__).resolve().parent.parent
WATCHDOG_HOME = Path(env.str("WATCHDOG_HOME", default=str(BASE_DIR / "var"))).resolve()
WATCHDOG_HOME.mkdir(parents=True, exist_ok=True)

PRODUCTION = env.bool("WATCHDOG_PRODUCTION", default=False)
DEBUG = False

if PRODUCTION:
    missing = [
        name
        for name in ("SECRET_KEY", "ALLOWED_HOSTS", "DATABASE_URL", "CELERY_BROKER_URL")
        if not env.str(name, default="")
    ]
    if missing:
        # The sentence is all there is to say; where in this file it was said helps nobody.
        sys.tracebacklimit = 0
        raise ImproperlyConfigured(
            f"WATCHDOG_PRODUCTION is set, so these must be too: {', '.join(missing)}."
        )
    SECRET_KEY = env.str("SECRET_KEY")
    ALLOWED_HOSTS = env.list("ALLOWED_HOSTS")
    CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])
    SECURE_SSL_REDIRECT = env.bool("SECURE_SSL_REDIRECT", default=True)
    # Asked by machines beside the web process, past the proxy.
    SECURE_REDIRECT_EXEMPT = [r"^(healthz|readyz|metrics)/?$"]
    SECURE_HSTS_SECONDS = env.int("SECURE_HSTS_SECONDS", default=31_536_000)
    SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = SECURE_HSTS_SECONDS > 0
    SESSION_COOKIE_SECURE = True
    CSRF_COOKIE_SECURE = True
else:
    SECRET_KEY = env.str("SECRET_KEY", default="") or local_secret(WATCHDOG_HOME)
    ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["127.0.0.1", "localhost", "[::1]"])

# How many proxies stand in front; only then is what they forward believed.
WATCHDOG_TRUSTED_PROXIES = env.int("WATCHDOG_TRUSTED_PROXIES", default=0)
if WATCHDOG_TRUSTED_PROXIES:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

SESSION_COOKIE_AGE = env.int("SESSION_COOKIE_AGE", default=7 * 24 * 3600)
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
X_FRAME_OPTIONS = "DENY"
# What is posted to the API is bounded by its parsers; this bounds the forms.
DATA_UPLOAD_MAX_MEMORY_SIZE = 5 * 1024 * 1024

# Five wrong passwords for a name from an address, and that pair waits for a quarter of an hour.
AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "django.contrib.auth.backends.ModelBackend",
]
AXES_FAILURE_LIMIT = 5
AXES_COOLOFF_TIME = timedelta(minutes=15)
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_RESET_ON_SUCCESS = True
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_CLIENT_IP_CALLABLE = "watchdog_project.addresses.client_address"
AXES_LOCKOUT_CALLABLE = "watchdog_project.error_pages.locked_out"
AXES_ENABLE_ADMIN = False
AXES_VERBOSE = False

# Of one key, by each web process; ten seconds' worth may come at once. Lease keeping is free.
WATCHDOG_KEY_REQUESTS_PER_SECOND = env.float("WATCHDOG_KEY_REQUESTS_PER_SECOND", default=100.0)
WATCHDOG_KEY_REPORTS_PER_SECOND = env.float("WATCHDOG_KEY_REPORTS_PER_SECOND", default=1000.0)

# What was sealed with an older SECRET_KEY stays readable: channels' addresses, sessions.
SECRET_KEY_FALLBACKS = env.list("SECRET_KEY_FALLBACKS", default=[])
# Where people reach this installation; messages link to it.
WATCHDOG_URL = env.str("WATCHDOG_URL", default="").rstrip("/")

# How long an answer of the status may be told again, in seconds; 0: never.
WATCHDOG_STATUS_SECONDS = env.float("WATCHDOG_STATUS_SECONDS", default=1.0)
WATCHDOG_PUBLIC_STATUS = env.bool("WATCHDOG_PUBLIC_STATUS", default=not PRODUCTION)

# How long a process relies on a key it has seen, and so how late a revocation may take effect.
WATCHDOG_KEY_MEMORY_SECONDS = env.float("WATCHDOG_KEY_MEMORY_SECONDS", default=3.0)

# Days to keep results that say what the one before said, and everything else.
WATCHDOG_KEEP_PASSES_DAYS = env.int("WATCHDOG_KEEP_PASSES_DAYS", default=7)
WATCHDOG_KEEP_CHANGES_DAYS = env.int("WATCHDOG_KEEP_CHANGES_DAYS", default=400)

INSTALLED_APPS = [
    "unfold",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_celery_beat",
    "axes",
    "locks.apps.LocksConfig",
    "identity.apps.IdentityConfig",
    "watchdog_project.apps.WatchdogConfig",
]

MIDDLEWARE = [
    "watchdog_project.request_log.RequestLog",
    "django.middleware.security.SecurityMiddleware",
    "watchdog_project.headers.BrowserHeaders",
    # What follows is for people and their browsers.
    "watchdog_project.short_ways.ShortWays",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "axes.middleware.AxesMiddleware",
]

ROOT_URLCONF = "watchdog_project.urls"
WSGI_APPLICATION = "watchdog_project.wsgi.application"
APPEND_SLASH = False

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

# A power cut must not take back a committed fencing token: FULL. Writers queue for 20 s, but for
# the lease statements, which bring their own limit.
SQLITE_OPTIONS: dict[str, Any] = {
    "timeout": 20,
    "transaction_mode": "IMMEDIATE",
    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
}
DATABASES: dict[str, dict[str, Any]] = {
    "default": env.db_url("DATABASE_URL", default=f"sqlite:///{WATCHDOG_HOME / 'watchdog.sqlite3'}")
}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    DATABASES["default"]["OPTIONS"] = SQLITE_OPTIONS
    # Several processes and threads write in the tests as they do in the field: a file, not memory.
    DATABASES["default"]["TEST"] = {"NAME": str(WATCHDOG_HOME / "test.sqlite3")}
else:
    # What the URL says of the connection (sslmode, say) stays.
    DATABASES["default"].setdefault("OPTIONS", {})["pool"] = {
        "min_size": 1,
        "max_size": env.int("WATCHDOG_DATABASE_CONNECTIONS", default=8),
        "timeout": 5,
    }
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"

LANGUAGE_CODE = "en-us"
TIME_ZONE = "America/Chicago"
USE_I18N = False
USE_TZ = True
FORMAT_MODULE_PATH = "watchdog_project.formats"

STATIC_URL = "static/"
STATIC_ROOT = WATCHDOG_HOME / "static"
STATIC_ROOT.mkdir(exist_ok=True)
STATICFILES_DIRS = [BASE_DIR / "watchdog_project" / "static"]
WHITENOISE_USE_FINDERS = True

REST_FRAMEWORK: dict[str, Any] = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "watchdog_project.authentication.ApiKeyAuthentication",
        "watchdog_project.authentication.AdminSessionAuthentication",
    ],
    "DEFAULT_PAGINATION_CLASS": "watchdog_project.lists.Pages",
    "DEFAULT_FILTER_BACKENDS": ["watchdog_project.lists.StatedFilters"],
    "DEFAULT_THROTTLE_CLASSES": ["watchdog_project.throttles.KeyThrottle"],
    "DEFAULT_PERMISSION_CLASSES": ["watchdog_project.authentication.HasRequiredRole"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "watchdog_project.negotiation.OneFormForAll",
    # The schema says what an address takes; a second description would be one too many.
    "DEFAULT_METADATA_CLASS": None,
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "watchdog_project.problems.problem_response",
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Watchdog",
    "DESCRIPTION": "Single-executor guard and identity watchdog for automated futures robots.",
    "VERSION": "1.0.0",
    "TAGS": [{"name": name, "description": told} for name, told in TAGS.items()],
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "watchdog_project.openapi.complete",
    ],
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["watchdog_project.authentication.HasRequiredRole"],
    "PREPROCESSING_HOOKS": ["watchdog_project.schema.one_path_per_address"],
    "SCHEMA_PATH_PREFIX": "/api/",
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
}

CELERY_BROKER_URL = env.str("CELERY_BROKER_URL", default="filesystem://localhost")
if CELERY_BROKER_URL.startswith("filesystem://"):
    broker_folder = WATCHDOG_HOME / "broker"
    for name in ("messages", "control"):
        (broker_folder / name).mkdir(parents=True, exist_ok=True)
    CELERY_BROKER_TRANSPORT_OPTIONS: dict[str, Any] = {
        "data_folder_in": str(broker_folder / "messages"),
        "data_folder_out": str(broker_folder / "messages"),
        "control_folder": str(broker_folder / "control"),
    }
elif CELERY_BROKER_URL.startswith("redis"):
    CELERY_BROKER_TRANSPORT_OPTIONS = {"unacked_restore_interval": 10}
CELERY_TASK_IGNORE_RESULT = True
CELERY_TIMEZONE = "UTC"
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TASK_DEFAULT_QUEUE = "watchdog"
CELERY_TASK_ROUTES = {
    f"watchdog_project.tasks.{name}": {"queue": "sweep"}
    for name in ("sweep_identity", "watch_alerts", "deliver_alerts")
}
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
# What is watched is checked so often; whoever shortens it makes an overdue sweep known sooner.
WATCHDOG_SWEEP_SECONDS = env.float("WATCHDOG_SWEEP_SECONDS", default=60.0)
# Pinged with every sweep, so that somebody outside notices when none comes any more. A secret: who
# knows the address can keep it quiet.
WATCHDOG_DEADMAN_URL = env.str("WATCHDOG_DEADMAN_URL", default="").strip()
WATCHDOG_DEADMAN_TIMEOUT = env.float("WATCHDOG_DEADMAN_TIMEOUT", default=3.0)
CELERY_BEAT_SCHEDULER = "django_celery_beat.schedulers:DatabaseScheduler"
CELERY_BEAT_SCHEDULE = {
    "identity sweep": {
        "task": "watchdog_project.tasks.sweep_identity",
        "schedule": timedelta(seconds=WATCHDOG_SWEEP_SECONDS),
        "options": {"expires": WATCHDOG_SWEEP_SECONDS * 11 / 12, "queue": "sweep"},
    },
    "stale-lock reaper": {
        "task": "watchdog_project.tasks.reap_stale_locks",
        "schedule": timedelta(seconds=15),
        "options": {"expires": 14},
    },
    # Both look at what lies in the database, so a lost or late one costs seconds.
    "alerts": {
        "task": "watchdog_project.tasks.watch_alerts",
        "schedule": timedelta(seconds=5),
        "options": {"expires": 4, "queue": "sweep"},
    },
    "alert delivery": {
        "task": "watchdog_project.tasks.deliver_alerts",
        "schedule": timedelta(seconds=5),
        "options": {"expires": 4, "queue": "sweep"},
    },
    "retention": {
        "task": "watchdog_project.tasks.prune_history",
        "schedule": timedelta(hours=1),
        "options": {"expires": 3300},
    },
    # Looked at every hour, written once a day: a lost message costs an hour, not a day.
    "market sessions": {
        "task": "watchdog_project.tasks.write_market_sessions",
        "schedule": timedelta(hours=1),
        "options": {"expires": 3300},
    },
}

# For people, `line`; for what collects logs, `json`, which tells each request as well.
WATCHDOG_LOG_FORMAT = env.str("WATCHDOG_LOG_FORMAT", default="json" if PRODUCTION else "line")
if WATCHDOG_LOG_FORMAT not in ("line", "json"):
    raise ImproperlyConfigured(f"WATCHDOG_LOG_FORMAT is line or json, not {WATCHDOG_LOG_FORMAT}.")
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"},
        "json": {
            "()": "pythonjsonlogger.json.JsonFormatter",
            "fmt": "%(levelname)s %(name)s %(message)s",
            "rename_fields": {"levelname": "level", "name": "logger"},
            "timestamp": True,
        },
    },
    "filters": {
        "context": {"()": "watchdog_project.log_context.Context"},
        "refusals": {"()": "watchdog_project.log_context.NoTraceOfRefusals"},
    },
    "handlers": {
        "console": {
            "class": "logging.StreamHandler",
            "formatter": WATCHDOG_LOG_FORMAT,
            "filters": ["context", "refusals"],
        }
    },
    "loggers": {
        # Each run of a task says what it did itself; that it was sent and received is noise. Who
        # logged in is a row of its own.
        name: {"level": "WARNING"}
        for name in ("celery.app.trace", "celery.worker.strategy", "celery.beat", "axes", "apprise")
    }
    | {
        "watchdog_project.request_log": {
            "level": "INFO" if WATCHDOG_LOG_FORMAT == "json" else "WARNING"
        },
    },
    "root": {"handlers": ["console"], "level": env.str("WATCHDOG_LOG_LEVEL", default="INFO")},
}
