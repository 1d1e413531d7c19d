from dataclasses import FrozenInstanceError, dataclass

import pytest

from django_eventstore.events import EventDefinition, event, registry


@event("definition.Sealed", version=3)
@dataclass(frozen=True)
class Sealed:
    number: int


@dataclass(frozen=True)
class Undeclared:
    number: int


def test_the_decorator_returns_the_class_itself():
    assert event("definition.Undeclared")(Undeclared) is Undeclared


def test_a_declared_class_is_found_with_its_type_and_version():
    assert registry.by_class(Sealed) == EventDefinition(type="definition.Sealed", version=3, cls=Sealed)


def test_the_version_is_1_unless_said():
    @event("definition.FirstForm")
    @dataclass(frozen=True)
    class FirstForm:
        pass

    definition = registry.by_type("definition.FirstForm")
    assert definition is not None
    assert definition.version == 1


def test_a_dataclass_with_slots_is_declared():
    @event("definition.Slotted")
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Slotted:
        number: int

    definition = registry.by_type("definition.Slotted")
    assert definition is not None
    assert definition.cls is Slotted


def test_a_subclass_of_an_event_class_is_no_event():
    @dataclass(frozen=True)
    class Child(Sealed):
        pass

    assert registry.by_class(Child) is None


def test_a_definition_does_not_change():
    definition = EventDefinition(type="definition.Sealed", version=1, cls=Sealed)
    with pytest.raises(FrozenInstanceError):
        definition.version = 2


def test_a_plain_class_is_refused_and_the_order_of_decorators_told():
    with pytest.raises(TypeError, match=r"no dataclass.*above @dataclass\(frozen=True\)"):

        @event("definition.Plain")
        class Plain:
            pass


def test_decorators_in_the_wrong_order_are_refused():
    with pytest.raises(TypeError, match="Decorators apply from the bottom up"):

        @dataclass(frozen=True)
        @event("definition.Upside")
        class Upside:
            number: int


def test_a_subclass_of_a_dataclass_without_the_decorator_is_refused():
    with pytest.raises(TypeError, match="no dataclass"):

        @event("definition.Bare")
        class Bare(Sealed):
            pass


def test_a_dataclass_that_is_not_frozen_is_refused():
    with pytest.raises(TypeError, match=r"not frozen\. Write @dataclass\(frozen=True\)"):

        @event("definition.Loose")
        @dataclass
        class Loose:
            number: int


def test_something_that_is_no_class_is_refused():
    with pytest.raises(TypeError, match="needs a class"):
        event("definition.Function")(lambda: None)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "NoDot",
        ".Leading",
        "trailing.",
        "two..dots",
        "orders.*",
        "*",
        "orders.Ordér",
        "orders.Has space",
        "orders.Line\n",
        "orders." + "x" * 144,
        None,
    ],
)
def test_a_bad_type_name_is_refused(name):
    with pytest.raises(ValueError, match="is no type name"):
        EventDefinition(type=name, version=1, cls=Sealed)


def test_a_type_name_of_150_characters_is_taken():
    name = "orders." + "x" * 143
    assert EventDefinition(type=name, version=1, cls=Sealed).type == name


@pytest.mark.parametrize("version", [0, -1, True, 1.0, "1", None])
def test_a_version_that_is_no_whole_number_from_1_is_refused(version):
    with pytest.raises(ValueError, match="no whole number from 1 up"):
        EventDefinition(type="definition.Sealed", version=version, cls=Sealed)


def test_a_refused_class_leaves_nothing_behind():
    with pytest.raises(TypeError):
        event("definition.Refused")(type("Refused", (), {}))

    assert registry.by_type("definition.Refused") is None


def test_aliases_are_names_beside_the_type():
    definition = EventDefinition(type="new.Sealed", version=1, cls=Sealed, aliases=("old.Sealed",))
    assert ("new.Sealed", "old.Sealed") == definition.names


@pytest.mark.parametrize(
    "aliases, problem",
    [
        (("Sealed",), "'Sealed' in aliases is no type name"),
        (("old.*",), "is no type name"),
        ((3,), "is no type name"),
        (("new.Sealed",), "without the type 'new.Sealed' itself"),
        (("old.Sealed", "old.Sealed"), "each once"),
    ],
)
def test_aliases_that_cannot_be_are_refused(aliases, problem):
    with pytest.raises(ValueError, match=problem):
        EventDefinition(type="new.Sealed", version=1, cls=Sealed, aliases=aliases)


@pytest.mark.parametrize("aliases", ["old.Sealed", None, 3])
def test_aliases_that_are_no_list_are_refused(aliases):
    with pytest.raises(TypeError, match="aliases is a list of type names"):
        event("new.Sealed", aliases=aliases)


def test_a_refused_alias_leaves_nothing_behind():
    other = dataclass(frozen=True)(type("Other", (), {"__annotations__": {}}))
    with pytest.raises(ValueError, match="already"):
        event("definition.New", aliases=["definition.Older", "definition.Sealed"])(other)

    assert (
        registry.by_type("definition.New") is registry.by_type("definition.Older") is registry.by_class(other) is None
    )
