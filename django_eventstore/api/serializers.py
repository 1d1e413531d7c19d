"""What the bodies hold, for schemas and readers. Not run per event: pages.py puts stored text together."""

from __future__ import annotations

from rest_framework import serializers

__all__ = ["EpochChangedSerializer", "EventSerializer", "HeadSerializer", "PageSerializer"]

LARGEST = 2**63 - 1


class EventSerializer(serializers.Serializer[object]):
    """One event of a page."""

    position = serializers.IntegerField(min_value=1, max_value=LARGEST, help_text="The place in the log.")
    event_id = serializers.UUIDField(help_text="The same on every delivery: what a reader deduplicates by.")
    type = serializers.CharField(help_text="As in orders.OrderCancelled.")
    version = serializers.IntegerField(min_value=0, help_text="The version of the payload's shape.")
    content_type = serializers.CharField()
    stream = serializers.CharField(
        allow_blank=True, trim_whitespace=False, help_text="What the event is about; empty: nothing in particular."
    )
    stream_version = serializers.IntegerField(
        allow_null=True, min_value=1, max_value=LARGEST, help_text="1, 2, 3, … on streams with optimistic concurrency."
    )
    timestamp = serializers.DateTimeField(
        help_text="When it was recorded: UTC, microseconds. Positions order, times do not."
    )
    correlation_id = serializers.CharField(allow_null=True, allow_blank=True, trim_whitespace=False)
    causation_id = serializers.CharField(allow_null=True, allow_blank=True, trim_whitespace=False)
    metadata = serializers.DictField(help_text="About the event: who, why, from where.")
    payload = serializers.JSONField(help_text="The event itself, byte for byte as it was recorded.")


class PageSerializer(serializers.Serializer[object]):
    """A part of the log. ``next_offset`` is where the reader goes on, also when the page is empty."""

    log = serializers.UUIDField(help_text="Which log this is; kept beside a saved offset.")
    epoch = serializers.IntegerField(min_value=1, help_text="Which history of the log; kept beside a saved offset.")
    events = EventSerializer(many=True)
    next_offset = serializers.IntegerField(min_value=0, max_value=LARGEST)
    complete = serializers.BooleanField(
        help_text="The end of the log was reached, with every event committed before the request."
    )
    head = serializers.IntegerField(
        required=False, min_value=0, max_value=LARGEST, help_text="The last position; only on a complete page."
    )


class HeadSerializer(serializers.Serializer[object]):
    """Where the log ends."""

    log = serializers.UUIDField()
    epoch = serializers.IntegerField(min_value=1)
    head = serializers.IntegerField(min_value=0, max_value=LARGEST)
    complete = serializers.BooleanField(help_text="Every event committed before the request is in the log.")


class EpochChangedSerializer(serializers.Serializer[object]):
    """409: the offset is not in the history of the log any more. What was read above ``began_after`` may be other events."""

    detail = serializers.CharField()
    log = serializers.UUIDField()
    epoch = serializers.IntegerField(min_value=1)
    reader_epoch = serializers.IntegerField(allow_null=True)
    head = serializers.IntegerField(min_value=0, max_value=LARGEST)
    began_after = serializers.IntegerField(min_value=0, max_value=LARGEST)
