from django.apps import AppConfig


class ShopConfig(AppConfig):
    name = "shop"

    def ready(self) -> None:
        from . import deliveries  # noqa: F401, PLC0415 - connects its receiver; signals are connected once apps are ready
