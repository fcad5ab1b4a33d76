"""The lock authority's addresses, over the small registry of the cast."""

from django.urls import include, path

from locks.api import lock_urls
from tests.locks.cast import resolve_market

urlpatterns = [path("api/", include(lock_urls(resolve_market)))]
