"""Domain events as plain Python: how they are declared, found, written as JSON text and read back."""

from .codec import annotation_error, decode, decode_mapping, encode, encode_mapping, encode_metadata
from .definition import EventDefinition, event
from .patterns import is_type_name, matches, validate_pattern
from .registry import EventRegistry, registry

__all__ = [
    "EventDefinition",
    "EventRegistry",
    "annotation_error",
    "decode",
    "decode_mapping",
    "encode",
    "encode_mapping",
    "encode_metadata",
    "event",
    "is_type_name",
    "matches",
    "registry",
    "validate_pattern",
]
