"""Domain events as plain Python: how they are declared, found, written as JSON text and read back."""

from .codec import (
    annotation_error,
    decode,
    decode_event,
    decode_mapping,
    decode_present,
    encode,
    encode_mapping,
    encode_metadata,
)
from .definition import EventDefinition, event, retire
from .patterns import is_type_name, matches, validate_pattern
from .registry import EventRegistry, registry, selects
from .upcasting import missing_steps, needless_upcasters, upcast, upcast_payload

__all__ = [
    "EventDefinition",
    "EventRegistry",
    "annotation_error",
    "decode",
    "decode_event",
    "decode_mapping",
    "decode_present",
    "encode",
    "encode_mapping",
    "encode_metadata",
    "event",
    "is_type_name",
    "matches",
    "missing_steps",
    "needless_upcasters",
    "registry",
    "retire",
    "selects",
    "upcast",
    "upcast_payload",
    "validate_pattern",
]
