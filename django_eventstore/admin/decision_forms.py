"""What an operator fills in to decide about failed deliveries."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from ..events import decode_mapping
from ..exceptions import EventDecodingError

__all__ = ["DecisionForm", "EditForm"]

LONGEST_REASON = 500


class DecisionForm(forms.Form):
    """Why; for a retry also how fast. A discard has a reason."""

    reason = forms.CharField(label=_("Because"), max_length=LONGEST_REASON, required=False)
    per_second = forms.IntegerField(
        label=_("So many in each second"),
        min_value=1,
        max_value=10_000,
        required=False,
        help_text=_("Empty: all at once."),
    )

    def __init__(self, *arguments: Any, decision: str, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.fields["reason"].required = decision == "discard"
        if decision != "retry":
            del self.fields["per_second"]


class EditForm(forms.Form):
    """The payload to deliver in place of the one in the log."""

    payload = forms.CharField(
        label=_("Payload"), strip=False, widget=forms.Textarea(attrs={"rows": 20, "cols": 100, "spellcheck": "false"})
    )
    reason = forms.CharField(label=_("Because"), max_length=LONGEST_REASON, required=False)
    position = forms.IntegerField(widget=forms.HiddenInput)

    def __init__(self, *arguments: Any, type_name: str, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.type_name = type_name

    def clean_payload(self) -> dict[str, object]:
        """The JSON object, its numbers as they were written."""
        try:
            return decode_mapping(self.cleaned_data["payload"], type=self.type_name)
        except EventDecodingError as error:
            raise ValidationError(_("This is no JSON object: %(reason)s"), params={"reason": error.reason}) from error
