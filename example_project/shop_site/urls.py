"""The admin, the shop, and the log of its events at ``/events``."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("", include("shop.urls")),
    path("", include("django_eventstore.api.urls")),
]
