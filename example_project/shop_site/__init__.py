"""The shop as a Django project. Importing it makes the Celery app the current one, for the web process too."""

from .celery import app as celery_app

__all__ = ["celery_app"]
