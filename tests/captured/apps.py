from django.apps import AppConfig


class CapturedConfig(AppConfig):
    name = "tests.captured"
    label = "captured"
    default_auto_field = "django.db.models.BigAutoField"
