"""The context itself; what record() makes of it is in tests/recording/test_context.py."""

from __future__ import annotations

import asyncio
import threading
from uuid import UUID

import pytest

from django_eventstore import EventContext, event_context, get_event_context
from django_eventstore.context import entered, is_identifier, new_identifier, valid_traceparent, who

pytestmark = pytest.mark.no_database

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Meta:
    label_lower = "auth.user"


class User:
    _meta = Meta()

    def __init__(self, pk: object, name: str) -> None:
        self.pk = pk
        self._name = name

    def get_username(self) -> str:
        return self._name


class Anonymous:
    pk = None
    is_anonymous = True


def test_outside_every_block_the_context_is_empty():
    assert EventContext() == get_event_context()


def test_a_block_sets_what_it_names_and_its_end_takes_it_back():
    with event_context(
        actor="ada", correlation_id="c-1", causation_id="e-1", traceparent=TRACE, metadata={"k": 1}
    ) as it:
        expected = EventContext(
            actor="ada", correlation_id="c-1", causation_id="e-1", traceparent=TRACE, metadata={"k": 1}
        )
        assert expected == it == get_event_context()
    assert EventContext() == get_event_context()


def test_an_error_ends_the_block_as_well():
    with pytest.raises(KeyError), event_context(actor="ada"):
        raise KeyError
    assert EventContext() == get_event_context()


def test_an_inner_block_inherits_what_it_does_not_name():
    with event_context(actor="ada", correlation_id="c-1", metadata={"a": 1, "b": 1}):
        with event_context(actor="bob", metadata={"b": 2}):
            expected = EventContext(actor="bob", correlation_id="c-1", metadata={"a": 1, "b": 2})
            assert expected == get_event_context()
        assert EventContext(actor="ada", correlation_id="c-1", metadata={"a": 1, "b": 1}) == get_event_context()


def test_a_block_can_be_entered_with_exactly_one_context():
    with event_context(actor="ada"), entered(EventContext(correlation_id="c")):
        assert EventContext(correlation_id="c") == get_event_context()


def test_tasks_of_one_event_loop_do_not_see_each_other():
    async def work(name: str) -> object:
        with event_context(actor=name):
            await asyncio.sleep(0.01)
            return get_event_context().actor

    async def both() -> list[object]:
        return await asyncio.gather(work("ada"), work("bob"))

    assert ["ada", "bob"] == asyncio.run(both())


def test_another_thread_has_a_context_of_its_own():
    seen = []
    with event_context(actor="ada"):
        thread = threading.Thread(target=lambda: seen.append(get_event_context()))
        thread.start()
        thread.join()
    assert [EventContext()] == seen


def test_a_uuid_is_an_id():
    id_ = UUID(int=7)
    with event_context(correlation_id=id_, causation_id=id_) as context:
        assert (str(id_), str(id_)) == (context.correlation_id, context.causation_id)


@pytest.mark.parametrize("name", ["correlation_id", "causation_id"])
@pytest.mark.parametrize("wrong", ["", "x" * 101, "a\nb", "nul\0", "\ud800", 7, b"x"])
def test_an_id_of_the_caller_that_cannot_be_one_is_an_error(name, wrong):
    with pytest.raises(ValueError, match=name):
        event_context(**{name: wrong})
    assert not is_identifier(wrong)


def test_an_id_may_have_a_hundred_characters():
    assert is_identifier("x" * 100)
    assert is_identifier(new_identifier())
    assert new_identifier() != new_identifier()


@pytest.mark.parametrize(
    "given, expected",
    [
        (TRACE, TRACE),
        ("01" + TRACE[2:], "01" + TRACE[2:]),
        ("01" + TRACE[2:] + "-more", "01" + TRACE[2:]),
        (TRACE + "-more", None),
        ("01" + TRACE[2:] + "more", None),
        ("ff" + TRACE[2:], None),
        (TRACE.upper(), None),
        (TRACE.replace("0af7651916cd43dd8448eb211c80319c", "0" * 32), None),
        (TRACE.replace("b7ad6b7169203331", "0" * 16), None),
        (TRACE + "\n", None),
        ("", None),
        (None, None),
        (7, None),
    ],
)
def test_a_traceparent_has_the_form_of_the_w3c(given, expected):
    assert expected == valid_traceparent(given)


def test_a_traceparent_of_the_caller_that_is_none_is_an_error():
    with pytest.raises(ValueError, match="traceparent"):
        event_context(traceparent="abc")


def test_a_user_is_kept_as_data():
    user = User(42, "ada")
    with event_context(actor=user) as context:
        user.pk, user._name = None, "gone"
        assert {"model": "auth.user", "id": "42", "label": "ada"} == context.current_actor()


def test_the_name_of_a_user_is_made_storable():
    assert {"model": "auth.user", "id": "1", "label": "a b"} == who(User(1, "a\0b"))
    assert "x" * 200 == who(User(1, "x" * 300))["label"]


class TokenUser:
    """As of a token whose user is in no table here."""

    is_authenticated = True

    def __init__(self, **attributes: object) -> None:
        vars(self).update(attributes)

    def __str__(self) -> str:
        return "token of ada"


def test_a_user_that_is_no_model_is_kept_by_what_it_has():
    assert {"id": "7", "label": "token of ada"} == who(TokenUser(pk=7))
    assert {"id": "8", "label": "token of ada"} == who(TokenUser(id=8))
    assert {"label": "token of ada"} == who(TokenUser())


def test_a_user_without_a_name_is_named_by_its_key():
    assert {"model": "auth.user", "id": "1", "label": "1"} == who(User(1, ""))


def test_nobody_and_anonymous_are_nobody():
    assert who(None) is None
    assert who(Anonymous()) is None


@pytest.mark.parametrize("wrong", [7, "", "x" * 201, "a\nb", User(None, "unsaved"), {}, {"id": 1}, object()])
def test_another_actor_is_an_error(wrong):
    with pytest.raises(ValueError, match="actor"):
        event_context(actor=wrong)


def test_a_function_is_asked_each_time():
    names = iter(["ada", User(1, "bob"), None])
    with event_context(actor=lambda: next(names)) as context:
        assert "ada" == context.current_actor()
        assert {"model": "auth.user", "id": "1", "label": "bob"} == context.current_actor()
        assert context.current_actor() is None


def test_the_metadata_of_an_event_is_that_of_the_caller_over_that_of_the_context():
    context = EventContext(actor="ada", traceparent=TRACE, metadata={"a": 1, "b": 1})
    assert {"actor": "ada", "traceparent": TRACE, "a": 1, "b": 2} == context.add_to({"b": 2})
    assert {"actor": "bob", "traceparent": TRACE, "a": 1, "b": 1} == context.add_to({"actor": "bob"})
    assert EventContext(correlation_id="c").add_to(None) is None
    assert EventContext(correlation_id="c").add_to({}) is None
    assert [1] == context.add_to([1])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "context",
    [
        EventContext(),
        EventContext(actor="ada", correlation_id="c", causation_id="e", traceparent=TRACE, metadata={"k": [1]}),
        EventContext(actor={"model": "auth.user", "id": "1", "label": "ada"}),
    ],
)
def test_it_goes_to_another_process_and_back(context):
    assert context == EventContext.from_mapping(context.to_mapping())


def test_what_is_wrong_in_a_mapping_from_elsewhere_is_left_out():
    wrong = {
        "actor": {"id": 1},
        "correlation_id": "x" * 101,
        "causation_id": 7,
        "traceparent": "t",
        "metadata": [1],
        "new": 1,
    }
    assert EventContext() == EventContext.from_mapping(wrong)
    assert EventContext(actor="ada") == EventContext.from_mapping({**wrong, "actor": "ada"})
