from __future__ import annotations

import pytest

from django_eventstore import handles
from django_eventstore.handlers import handler_registry
from tests.shop.events import OrderCancelled, OrderPlaced


def names(mode_tuple):
    return [handler.name for handler in mode_tuple]


def test_a_declared_function_stays_the_function_it_is():
    def refund(event): ...

    assert refund is handles(OrderCancelled)(refund)


def test_a_handler_has_its_dotted_path_as_name_and_a_consumer_of_its_own():
    @handles(OrderCancelled)
    def refund(event): ...

    (handler,) = handler_registry.durable()
    path = f"{__name__}.{refund.__qualname__}"
    assert (path, path) == (handler.name, handler.consumer)


def test_name_and_consumer_can_be_given():
    @handles(OrderCancelled, name="refunds", consumer="money")
    def refund(event): ...

    (handler,) = handler_registry.durable()
    assert ("refunds", "money") == (handler.name, handler.consumer)


def test_the_defaults_are_durable_event_now():
    @handles(OrderCancelled)
    def refund(event): ...

    (handler,) = handler_registry.durable()
    assert ("durable", "event", "now", False, False) == (
        handler.mode,
        handler.transaction,
        handler.start,
        handler.takes_entry,
        handler.is_async,
    )


def test_classes_are_wanted_by_their_type_and_only_they_are_typed():
    @handles(OrderCancelled, "shop.OrderPlaced", "billing.*")
    def refund(event): ...

    (handler,) = handler_registry.durable()
    assert ("shop.OrderCancelled", "shop.OrderPlaced", "billing.*") == handler.events
    assert {"shop.OrderCancelled"} == handler.typed


@pytest.mark.parametrize(
    "type, wanted",
    [
        ("shop.OrderCancelled", True),
        ("billing.Paid", True),
        ("billing.deep.Paid", True),
        ("billing2.Paid", False),
        ("shop.OrderCancelledTwice", False),
    ],
)
def test_it_wants_its_types_and_prefixes(type, wanted):
    @handles(OrderCancelled, "billing.*")
    def refund(event): ...

    assert wanted == handler_registry.durable()[0].wants(type)


def test_a_star_wants_everything():
    @handles("*")
    def log(event): ...

    assert handler_registry.durable()[0].wants("any.Thing")


def test_durable_and_sync_handlers_are_kept_apart_in_the_order_of_declaration():
    for name, mode in (("d1", "durable"), ("s1", "sync"), ("s2", "sync"), ("d2", "durable")):

        @handles("a.A", name=name, mode=mode)
        def handler(event): ...

    assert ["d1", "d2"] == names(handler_registry.durable())
    assert ["s1", "s2"] == names(handler_registry.sync_for("a.A"))
    assert [] == names(handler_registry.sync_for("a.B"))


def test_a_module_that_is_loaded_again_replaces_its_handlers():
    for start in ("now", "beginning"):

        @handles("a.A", start=start)
        def refund(event): ...

    assert ["beginning"] == [handler.start for handler in handler_registry.durable()]


def test_two_functions_of_one_name_are_an_error_that_names_both():
    @handles("a.A", name="refunds")
    def one(event): ...

    with pytest.raises(ValueError, match=r"(?s)one.*two"):

        @handles("a.A", name="refunds")
        def two(event): ...

    assert [one] == [handler.function for handler in handler_registry.durable()]


def test_two_decorators_on_one_function_are_an_error_and_not_the_last_of_them():
    with pytest.raises(ValueError, match="name all its events in one"):

        @handles("a.A")
        @handles("a.B")
        def refund(event): ...


def test_the_same_declaration_twice_is_harmless():
    def refund(event): ...

    handles("a.A")(refund)
    handles("a.A")(refund)
    assert 1 == len(handler_registry.durable())


def test_one_function_under_two_names_is_two_handlers():
    def refund(event): ...

    handles("a.A", name="one")(refund)
    handles("a.B", name="two")(refund)
    assert ["one", "two"] == names(handler_registry.durable())


def test_an_unregistered_handler_is_forgotten():
    @handles("a.A", name="refunds")
    def refund(event): ...

    handler_registry.unregister("refunds")
    assert () == handler_registry.durable()


def test_no_event_is_an_error_that_shows_the_form():
    with pytest.raises(TypeError, match=r"@handles\(OrderCancelled\)"):
        handles()


def test_a_decorator_without_parentheses_is_an_error():
    with pytest.raises(TypeError, match="not an event class"):

        @handles
        def refund(event): ...


@pytest.mark.parametrize("wanted", [dict, 3, None])
def test_what_is_no_event_class_and_no_type_name_is_an_error(wanted):
    with pytest.raises(TypeError, match="not an event class"):
        handles(wanted)


@pytest.mark.parametrize("pattern", ["", "orders", "orders*", "orders.*.Placed", "*.Placed", "orders.", "a.A "])
def test_what_selects_no_events_is_an_error(pattern):
    with pytest.raises(ValueError, match="selects no events"):
        handles(pattern)


@pytest.mark.parametrize(
    "wrong",
    [
        {"mode": "later"},
        {"mode": "on_commit"},
        {"transaction": "none"},
        {"start": "end"},
        {"start": -1},
        {"start": True},
        {"start": 1.5},
        {"start": None},
    ],
)
def test_a_value_that_is_none_of_the_choices_is_an_error_that_names_it(wrong):
    (key,) = wrong
    with pytest.raises(ValueError, match=f"^{key} must be"):
        handles("a.A", **wrong)


@pytest.mark.parametrize("given", [{"name": "n" * 151}, {"consumer": "c" * 151}])
def test_a_name_that_fits_no_column_is_an_error(given):
    with pytest.raises(ValueError, match="150 characters"):

        @handles("a.A", **given)
        def refund(event): ...


def test_a_name_of_150_characters_is_fine():
    @handles("a.A", name="n" * 150)
    def refund(event): ...


def takes(function):
    handles("a.A", name="only")(function)
    (handler,) = handler_registry.durable()
    handler_registry.unregister("only")
    return handler.takes_entry


def test_a_handler_takes_the_event_or_the_event_and_its_entry():
    assert not takes(lambda event: None)
    assert takes(lambda event, entry: None)
    assert takes(lambda event, entry=None: None)
    assert takes(lambda event, entry, more=None: None)
    assert not takes(lambda event, *more: None)
    assert not takes(lambda event, **more: None)
    assert not takes(lambda event, *, flag=False: None)
    assert not takes(lambda event, /: None)


@pytest.mark.parametrize(
    "function",
    [lambda: None, lambda *events: None, lambda *, event: None, lambda a, b, c: None, lambda event, *, flag: None],
)
def test_any_other_signature_is_an_error(function):
    with pytest.raises(TypeError, match="takes \\(event\\) or \\(event, entry\\)"):
        handles("a.A", name="only")(function)
    assert () == handler_registry.durable()


def test_a_coroutine_function_is_told_apart():
    @handles(OrderPlaced)
    async def refund(event): ...

    assert handler_registry.durable()[0].is_async
