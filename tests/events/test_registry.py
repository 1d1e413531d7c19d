from dataclasses import dataclass

import pytest

from django_eventstore.events import EventDefinition, EventRegistry, matches, validate_pattern


@dataclass(frozen=True)
class Placed:
    number: int


@dataclass(frozen=True)
class Cancelled:
    number: int


def define(type, cls, version=1):
    return EventDefinition(type=type, version=version, cls=cls)


def imported_again(cls):
    again = dataclass(frozen=True)(type(cls.__name__, (), {"__annotations__": {"number": int}}))
    again.__module__, again.__qualname__ = cls.__module__, cls.__qualname__
    return again


def test_a_definition_is_found_by_type_and_by_class():
    registry = EventRegistry()
    placed = define("orders.Placed", Placed)
    registry.register(placed)

    assert registry.by_type("orders.Placed") is placed
    assert registry.by_class(Placed) is placed


def test_what_is_not_registered_is_none():
    registry = EventRegistry()
    assert registry.by_type("orders.Placed") is None
    assert registry.by_class(Placed) is None


def test_definitions_are_listed_by_type_name():
    registry = EventRegistry()
    placed, cancelled = define("orders.Placed", Placed), define("orders.Cancelled", Cancelled)
    registry.register(placed)
    registry.register(cancelled)

    assert registry.definitions() == (cancelled, placed)


def test_a_second_class_of_the_same_type_is_refused_and_both_are_named():
    registry = EventRegistry()
    placed = define("orders.Placed", Placed)
    registry.register(placed)

    with pytest.raises(ValueError, match=r"test_registry\.Placed already .*test_registry\.Cancelled too"):
        registry.register(define("orders.Placed", Cancelled))
    assert registry.definitions() == (placed,)
    assert registry.by_class(Cancelled) is None


def test_a_class_of_two_types_is_refused():
    registry = EventRegistry()
    registry.register(define("orders.Placed", Placed))

    with pytest.raises(ValueError, match=r"declared as 'orders\.Placed' already and cannot be 'orders\.Made'"):
        registry.register(define("orders.Made", Placed))
    assert registry.by_type("orders.Made") is None


def test_the_class_of_a_module_imported_again_replaces_the_earlier_one():
    registry = EventRegistry()
    registry.register(define("orders.Placed", Placed))
    again = define("orders.Placed", imported_again(Placed), version=2)
    registry.register(again)

    assert registry.definitions() == (again,)
    assert registry.by_class(again.cls) is again
    assert registry.by_class(Placed) is None


def test_registering_a_definition_twice_changes_nothing():
    registry = EventRegistry()
    registry.register(define("orders.Placed", Placed))
    registry.register(define("orders.Placed", Placed))

    assert registry.by_class(Placed) == define("orders.Placed", Placed)


@pytest.mark.parametrize(
    "pattern, type, selected",
    [
        ("orders.OrderCancelled", "orders.OrderCancelled", True),
        ("orders.OrderCancelled", "orders.OrderCancelledLate", False),
        ("orders.OrderCancelled", "orders.OrderCancelle", False),
        ("orders.*", "orders.OrderCancelled", True),
        ("orders.*", "orders.lines.LineAdded", True),
        ("orders.*", "orders2.OrderCancelled", False),
        ("orders.*", "shop.orders.OrderCancelled", False),
        ("orders.lines.*", "orders.OrderCancelled", False),
        ("*", "orders.OrderCancelled", True),
    ],
)
def test_a_pattern_selects_by_whole_words(pattern, type, selected):
    assert matches(pattern, type) is selected


@pytest.mark.parametrize("pattern", ["*", "orders.*", "orders.lines.*", "orders.OrderCancelled", "a-b.c_d.1"])
def test_a_valid_pattern_is_taken(pattern):
    validate_pattern(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "orders",
        "orders*",
        "*.Placed",
        "orders.*.Placed",
        "orders.**",
        ".*",
        "a b.*",
        "orders.*\n",
        "x" * 149 + ".*",
    ],
)
def test_an_invalid_pattern_is_refused_and_the_forms_are_told(pattern):
    with pytest.raises(ValueError, match=r"selects no events.*'orders\.\*'.*'\*' for every type"):
        validate_pattern(pattern)
