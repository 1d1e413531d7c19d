from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta, timezone

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from django_eventstore.conf import ConsumerSettings, Settings, get_settings, setting_problems
from django_eventstore.consumers import declared_consumers

pytestmark = pytest.mark.no_database

POSITIVE_INTEGERS = (
    "AFTER_COMMIT_QUEUE",
    "AFTER_COMMIT_THREADS",
    "FORWARD_EVENTS",
    "MAX_ATTEMPTS",
    "MAX_CRASHES",
    "MAX_FAILURES",
    "MAX_PAYLOAD_BYTES",
    "PAGE_LIMIT",
)
CHOICES = {
    "OUTSIDE_TRANSACTION": ("allow", "warn", "error"),
    "ON_PARKED": ("block", "continue"),
    "ON_UNDECODABLE": ("retry", "park", "pause"),
}
BOOLEANS = ("CREATE_BEAT_SCHEDULE", "NOTIFY", "TRACING", "WAKE_UP")
TEXTS = ("LISTEN_ALIAS",)
DURATIONS = (
    "AFTER_COMMIT_EXIT",
    "FORWARD_EVERY",
    "FORWARD_SECONDS",
    "LEASE",
    "WAKE_UP_INTERVAL",
    "RETRY_BASE",
    "RETRY_CAP",
)
SENDER = "warehouse.Sender"


def problems(**given):
    with override_settings(EVENTSTORE=given):
        return setting_problems()


def consumer_problems(**given):
    return problems(CONSUMERS={"warehouse": {"SENDER": SENDER, **given}})


def test_without_any_setting_there_are_the_defaults():
    with override_settings():
        from django.conf import settings

        if hasattr(settings, "EVENTSTORE"):
            del settings.EVENTSTORE
        get_settings.cache_clear()
        assert Settings() == get_settings()
        assert [] == setting_problems()


def test_every_setting_is_tried_below():
    tried = {"CONSUMERS", *CHOICES, *POSITIVE_INTEGERS, *BOOLEANS, *DURATIONS, *TEXTS}
    assert {field.name for field in dataclasses.fields(Settings)} == tried


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_that_may_be_missing(name):
    assert [] == problems(**{name: None})
    assert [] == problems(**{name: "direct"})
    assert [f"EVENTSTORE[{name!r}] must be a text or None."] == problems(**{name: ""})
    assert [f"EVENTSTORE[{name!r}] must be a text or None."] == problems(**{name: 7})


@pytest.mark.parametrize("name", POSITIVE_INTEGERS)
@pytest.mark.parametrize("value", [0, -1, 1.5, "7", None, True])
def test_a_number_is_a_positive_integer(name, value):
    assert [f"EVENTSTORE['{name}'] must be a positive integer."] == problems(**{name: value})


@pytest.mark.parametrize("name", BOOLEANS)
@pytest.mark.parametrize("value", [0, 1, "yes", None])
def test_a_switch_is_true_or_false(name, value):
    assert [f"EVENTSTORE['{name}'] must be True or False."] == problems(**{name: value})


@pytest.mark.parametrize("name", DURATIONS)
@pytest.mark.parametrize("value", [timedelta(0), timedelta(seconds=-1), 5, 1.5, "1s", None])
def test_a_duration_is_a_positive_timedelta(name, value):
    assert [f"EVENTSTORE['{name}'] must be a positive datetime.timedelta."] == problems(**{name: value})


@pytest.mark.parametrize("name", CHOICES)
@pytest.mark.parametrize("value", ["ignore", True, None, [], "WARN", "BLOCK"])
def test_a_choice_is_one_of_few(name, value):
    expected = [f"EVENTSTORE['{name}'] must be one of {', '.join(map(repr, CHOICES[name]))}."]
    assert expected == problems(**{name: value})


@pytest.mark.parametrize(
    "name, value",
    [
        *((name, 7) for name in POSITIVE_INTEGERS),
        *((name, False) for name in BOOLEANS),
        *((name, timedelta(microseconds=1)) for name in DURATIONS),
        *((name, choice) for name, choices in CHOICES.items() for choice in choices),
    ],
)
def test_a_good_value_takes_effect(name, value):
    with override_settings(EVENTSTORE={name: value}):
        assert [] == setting_problems()
        assert value == getattr(get_settings(), name)
        assert dataclasses.replace(Settings(), **{name: value}) == get_settings()


def test_an_overridden_setting_is_back_afterwards():
    before = get_settings()
    with override_settings(EVENTSTORE={"LEASE": timedelta(seconds=7)}):
        assert timedelta(seconds=7) == get_settings().LEASE
    assert before == get_settings()


def test_parsed_once():
    assert get_settings() is get_settings()


@pytest.mark.parametrize("value", [None, [], "x", 3])
def test_anything_but_a_dict_is_named(value):
    with override_settings(EVENTSTORE=value):
        assert ["EVENTSTORE must be a dict."] == setting_problems()


def test_an_unknown_key_is_named_with_the_one_it_resembles():
    assert ["EVENTSTORE: unknown key 'WAKEUP'. Did you mean 'WAKE_UP'?"] == problems(WAKEUP=True)


def test_an_unknown_key_that_resembles_none_is_named_with_all_of_them():
    (problem,) = problems(zzz=1)
    assert problem.startswith("EVENTSTORE: unknown key 'zzz'. Known: CONSUMERS, MAX_PAYLOAD_BYTES,")


def test_a_key_that_is_no_text_is_named():
    with override_settings(EVENTSTORE={7: 1}):
        assert "unknown key 7" in setting_problems()[0]


def test_using_wrong_settings_is_an_error_with_every_problem():
    with (
        override_settings(EVENTSTORE={"LEASE": 5, "WAKEUP": 1}),
        pytest.raises(ImproperlyConfigured, match=r"(?s)LEASE.*WAKEUP"),
    ):
        get_settings()


def test_a_wrong_value_does_not_hide_the_good_ones():
    with override_settings(EVENTSTORE={"LEASE": 5, "PAGE_LIMIT": 7}), pytest.raises(ImproperlyConfigured):
        get_settings()
    with override_settings(EVENTSTORE={"PAGE_LIMIT": 7}):
        assert 7 == get_settings().PAGE_LIMIT


# --- consumers ---


def test_a_consumer_needs_a_sender_only():
    with override_settings(EVENTSTORE={"CONSUMERS": {"warehouse": {"SENDER": SENDER}}}):
        assert {"warehouse": ConsumerSettings(SENDER=SENDER)} == get_settings().CONSUMERS


def test_a_consumer_with_everything():
    given = {
        "SENDER": SENDER,
        "OPTIONS": {"a": 1},
        "EVENTS": ["orders.*"],
        "START": 7,
        "LIMIT": 10_000,
        "MAX_ATTEMPTS": 3,
        "ON_PARKED": "continue",
    }
    assert {field.name for field in dataclasses.fields(ConsumerSettings)} == set(given)
    with override_settings(EVENTSTORE={"CONSUMERS": {"warehouse": given}}):
        assert ConsumerSettings(**{**given, "EVENTS": ("orders.*",)}) == get_settings().CONSUMERS["warehouse"]


@pytest.mark.parametrize("value", [None, [], "x"])
def test_consumers_are_a_dict(value):
    assert ["EVENTSTORE['CONSUMERS'] must be a dict of consumers by name."] == problems(CONSUMERS=value)


@pytest.mark.parametrize("value", [None, [], SENDER])
def test_a_consumer_is_a_dict(value):
    expected = "EVENTSTORE['CONSUMERS']['warehouse'] must be a dict with 'SENDER'."
    assert [expected] == problems(CONSUMERS={"warehouse": value})


@pytest.mark.parametrize("name", ["", "n" * 151, 7, None])
def test_a_name_is_a_text_of_at_most_150_characters(name):
    (problem,) = problems(CONSUMERS={name: {"SENDER": SENDER}})
    assert problem == f"EVENTSTORE['CONSUMERS'][{name!r}]: a consumer's name is a text of 1 to 150 characters."


def test_an_unknown_key_of_a_consumer_is_named_with_the_one_it_resembles():
    expected = "EVENTSTORE['CONSUMERS']['warehouse']: unknown key 'EVENT'. Did you mean 'EVENTS'?"
    assert [expected] == consumer_problems(EVENT=["orders.*"])


@pytest.mark.parametrize("value", [None, 7, "Sender", ""])
def test_a_sender_is_a_dotted_path(value):
    assert "['SENDER'] must be the dotted path" in consumer_problems(SENDER=value)[0]


def test_a_consumer_without_a_sender_is_named():
    assert "['SENDER'] must be the dotted path" in problems(CONSUMERS={"warehouse": {}})[0]


@pytest.mark.parametrize("value", [None, [], "x"])
def test_options_are_a_dict(value):
    assert ["EVENTSTORE['CONSUMERS']['warehouse']['OPTIONS'] must be a dict."] == consumer_problems(OPTIONS=value)


@pytest.mark.parametrize(
    "value",
    ["orders.*", [], [7], b"orders.*", 7, None],
)
def test_events_are_a_list_of_texts(value):
    assert "['EVENTS'] must be a list" in consumer_problems(EVENTS=value)[0]


@pytest.mark.parametrize("value", ["end", -1, 1.5, None, [], True])
def test_a_start_is_now_the_beginning_a_position_or_a_time(value):
    assert [
        "EVENTSTORE['CONSUMERS']['warehouse']['START'] must be 'now', 'beginning', a position or an aware datetime."
    ] == consumer_problems(START=value)


def test_a_start_at_a_time_has_a_time_zone():
    assert [] == consumer_problems(START=datetime(2026, 1, 1, tzinfo=timezone.utc))
    assert ["EVENTSTORE['CONSUMERS']['warehouse']['START'] is a naive datetime: give it a time zone."] == (
        consumer_problems(START=datetime(2026, 1, 1))  # noqa: DTZ001
    )


@pytest.mark.parametrize("value", [0, -1, 1.5, "7", True])
def test_the_attempts_of_a_consumer_are_a_positive_integer(value):
    assert ["EVENTSTORE['CONSUMERS']['warehouse']['MAX_ATTEMPTS'] must be a positive integer."] == (
        consumer_problems(MAX_ATTEMPTS=value)
    )


@pytest.mark.parametrize("value", ["stop", True, [], "BLOCK"])
def test_what_a_parked_event_of_a_consumer_does_is_one_of_two(value):
    assert ["EVENTSTORE['CONSUMERS']['warehouse']['ON_PARKED'] must be 'block' or 'continue'."] == (
        consumer_problems(ON_PARKED=value)
    )


def test_what_a_consumer_does_not_say_is_as_the_settings_say():
    with override_settings(EVENTSTORE={"CONSUMERS": {"warehouse": {"SENDER": SENDER}}, "MAX_ATTEMPTS": 5}):
        assert (5, "block") == policy_of("warehouse")
    given = {"SENDER": SENDER, "MAX_ATTEMPTS": 2, "ON_PARKED": "continue"}
    with override_settings(EVENTSTORE={"CONSUMERS": {"warehouse": given}, "MAX_ATTEMPTS": 5}):
        assert (2, "continue") == policy_of("warehouse")


def policy_of(name):
    policy = declared_consumers()[name].policy
    return policy.max_attempts, policy.on_parked


@pytest.mark.parametrize("value", [0, 10_001, "7", True])
def test_a_limit_is_between_one_and_ten_thousand(value):
    assert ["EVENTSTORE['CONSUMERS']['warehouse']['LIMIT'] must be between 1 and 10000."] == (
        consumer_problems(LIMIT=value)
    )


def test_every_problem_of_every_consumer_is_told():
    given = {"one": {"SENDER": SENDER, "LIMIT": 0}, "two": {"SENDER": SENDER, "START": -1, "EVENT": 1}}
    assert 3 == len(problems(CONSUMERS=given))
