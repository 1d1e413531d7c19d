"""What is filled in to register an endpoint of webhooks, and to do something to it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from ..exceptions import UnknownConsumer
from ..models import Endpoint
from ..webhooks.endpoints import OVERLAP, validate_endpoint, webhook_consumers
from ..webhooks.vault import MISSING, can_encrypt

__all__ = ["DisableForm", "EmptyForm", "EnableForm", "EndpointForm", "ReplayForm", "RotateForm"]

HOUR = timedelta(hours=1)


class EndpointForm(forms.ModelForm):  # type: ignore[type-arg]  # not generic at run time
    """URL and events; for a new one also its consumer. What the sender's options do not allow is refused here."""

    class Meta:
        model = Endpoint
        fields = ("consumer", "url", "events", "description")

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        if "consumer" in self.fields:
            names = list(webhook_consumers())
            self.fields["consumer"] = forms.ChoiceField(
                label=self.fields["consumer"].label,
                choices=[(name, name) for name in names],
                help_text="" if names else _("No consumer of EVENTSTORE['CONSUMERS'] sends webhooks."),
            )
        if "url" in self.fields:  # those who may only view have none
            self.fields["url"].widget = forms.TextInput(attrs={"size": 80, "spellcheck": "false"})
            self.fields["events"].widget = forms.Textarea(attrs={"rows": 4, "cols": 80, "spellcheck": "false"})

    def clean(self) -> None:
        super().clean()
        if self.instance.pk is None and not can_encrypt():
            raise ValidationError(MISSING)
        if self.errors:
            return
        consumer = self.cleaned_data.get("consumer", self.instance.consumer)
        try:
            validate_endpoint(Endpoint(consumer=consumer, url=self.cleaned_data["url"]))
        except UnknownConsumer as error:
            raise ValidationError(str(error)) from error
        except ValidationError as error:
            if set(error.message_dict) <= set(self.fields):
                raise
            raise ValidationError(error.messages) from error


class EmptyForm(forms.Form):
    """Nothing is asked."""


class RotateForm(forms.Form):
    """How long the secret before signs as well."""

    hours = forms.IntegerField(
        label=_("Hours"),
        min_value=0,
        max_value=24 * 365,
        initial=OVERLAP // HOUR,
        help_text=_("So long the old secret signs as well; 0 when it has been stolen."),
    )


class DisableForm(forms.Form):
    """Why."""

    reason = forms.CharField(label=_("Because"), max_length=300, required=False)


class EnableForm(forms.Form):
    """What becomes of the events meanwhile."""

    missed = forms.BooleanField(label=_("Send what it has missed"), required=False, initial=True)


class ReplayForm(forms.Form):
    """From where on."""

    offset = forms.IntegerField(
        label=_("Offset"), min_value=0, help_text=_("It gets again what comes after this position of the log.")
    )
