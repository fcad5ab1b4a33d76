"""Every address of the product, and what the apps are handed of each other."""

from django.contrib import admin
from django.urls import path

urlpatterns = [
    path("admin/", admin.site.urls),
]
