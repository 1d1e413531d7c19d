from dataclasses import dataclass

import pytest

from django_eventstore.events import (
    EventDefinition,
    EventRegistry,
    event,
    matches,
    retire,
    selects,
    validate_pattern,
)


@dataclass(frozen=True)
class Placed:
    number: int


@dataclass(frozen=True)
class Cancelled:
    number: int


def define(type, cls, version=1, aliases=()):
    return EventDefinition(type=type, version=version, cls=cls, aliases=aliases)


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


def test_a_definition_is_found_by_its_aliases_and_listed_once():
    registry = EventRegistry()
    placed = define("orders.Placed", Placed, aliases=("shop.Placed", "shop.Made"))
    registry.register(placed)

    assert registry.by_type("shop.Placed") is registry.by_type("shop.Made") is placed
    assert (placed,) == registry.definitions()
    assert "orders.Placed" == registry.present_type("shop.Made") == registry.present_type("orders.Placed")
    assert ("orders.Placed", "shop.Placed", "shop.Made") == registry.names("shop.Made")


def test_an_undeclared_type_is_its_own_only_name():
    registry = EventRegistry()
    assert "orders.Placed" == registry.present_type("orders.Placed")
    assert ("orders.Placed",) == registry.names("orders.Placed")


@pytest.mark.parametrize("taken", ["orders.Placed", "shop.Placed"])
def test_an_alias_that_names_another_class_is_refused(taken):
    registry = EventRegistry()
    registry.register(define("orders.Placed", Placed, aliases=("shop.Placed",)))

    with pytest.raises(ValueError, match=rf"'{taken}' is .* of .*Placed already"):
        registry.register(define("orders.Cancelled", Cancelled, aliases=(taken,)))
    assert registry.by_class(Cancelled) is registry.by_type("orders.Cancelled") is None


def test_a_type_that_is_an_alias_of_another_class_is_refused():
    registry = EventRegistry()
    registry.register(define("orders.Placed", Placed, aliases=("shop.Placed",)))

    with pytest.raises(ValueError, match=r"'shop\.Placed' is an alias of .*test_registry\.Placed already"):
        registry.register(define("shop.Placed", Cancelled))


def test_a_module_imported_again_takes_its_earlier_aliases_along():
    registry = EventRegistry()
    registry.register(define("shop.Placed", Placed, aliases=("old.Placed",)))
    registry.register(define("orders.Placed", imported_again(Placed), aliases=("shop.Placed",)))

    assert registry.by_type("old.Placed") is None
    assert registry.by_class(Placed) is None
    assert "orders.Placed" == registry.present_type("shop.Placed")


def test_a_retired_type_is_listed_and_can_name_no_class():
    registry = EventRegistry()
    registry.retire("shop.Placed", "no shop any more")

    assert {"shop.Placed": "no shop any more"} == registry.retired()
    for definition in (define("shop.Placed", Placed), define("orders.Placed", Placed, aliases=("shop.Placed",))):
        with pytest.raises(ValueError, match=r"'shop\.Placed' is retired and cannot name"):
            registry.register(definition)


def test_a_type_that_has_a_class_is_not_retired():
    registry = EventRegistry()
    registry.register(define("orders.Placed", Placed, aliases=("shop.Placed",)))
    for name in ("orders.Placed", "shop.Placed"):
        with pytest.raises(ValueError, match=r"declared by .*Placed and cannot be retired"):
            registry.retire(name, "")


@pytest.mark.parametrize("name", ["Placed", "orders.*", 3])
def test_only_a_type_name_is_retired(name):
    with pytest.raises(ValueError, match="is no type name"):
        retire(name)


@pytest.mark.parametrize(
    "pattern, selected",
    [
        ("orders.Placed", True),
        ("shop.Placed", True),
        ("orders.*", True),
        ("shop.*", True),
        ("*", True),
        ("shop.Cancelled", False),
        ("old.*", False),
    ],
)
def test_a_renamed_event_is_selected_by_each_of_its_names_wherever_it_is_stored(pattern, selected):
    event("orders.Placed", aliases=["shop.Placed"])(Placed)
    assert selected == selects([pattern], "orders.Placed") == selects([pattern], "shop.Placed")
    assert selects(["test.Nothing", "*"], "other.Thing")
    assert not selects([], "orders.Placed")
