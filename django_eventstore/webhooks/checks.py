"""System checks of a sender of webhooks."""

from __future__ import annotations

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning  # noqa: A004 - Django's name for it

from ..conf import get_settings
from .client import Limits
from .targets import Rules
from .vault import can_encrypt

__all__ = ["check_options"]


def check_options(rules: Rules, limits: Limits) -> list[CheckMessage]:
    """What is wrong with these options, or dangerous outside of a desk."""
    found: list[CheckMessage] = []
    if not can_encrypt():
        found.append(
            Error(
                "Webhooks keep the secrets of their endpoints encrypted, and cryptography is not installed.",
                hint="pip install 'django-eventstore[webhooks]'",
                id="django_eventstore.E070",
            )
        )
    if limits.timeout >= get_settings().LEASE / 2:
        found.append(
            Error(
                f"A webhook may take {limits.timeout}, which is not less than half of LEASE: another worker would send "
                "the same event before it is over.",
                hint="Shorten 'timeout' in the consumer's OPTIONS, or lengthen EVENTSTORE['LEASE'].",
                id="django_eventstore.E071",
            )
        )
    if settings.DEBUG:
        return found
    if rules.allow_private:
        found.append(
            Warning(
                "Webhooks may go to this machine and its private networks: whoever registers an endpoint reaches them.",
                hint="Remove 'allow_private', unless all endpoints are your own. Then silence this check.",
                id="django_eventstore.W070",
            )
        )
    if rules.allow_http:
        found.append(
            Warning(
                "Webhooks may go by http: everybody on the way can read the events.",
                hint="Remove 'allow_http', unless all endpoints are in your own network. Then silence this check.",
                id="django_eventstore.W071",
            )
        )
    return found
