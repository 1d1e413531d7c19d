"""The suite fails on wrong designs: each fault is found by its play, which finds nothing without it."""

from __future__ import annotations

import pytest

from tests.concurrency.delivery import plays
from tests.concurrency.delivery.play import Play
from tests.concurrency.marks import on_shared_log

pytestmark = on_shared_log

CASES = [
    pytest.param(plays.killed_before_sending, "saved before sent", id="saved before sent"),
    pytest.param(plays.killed_while_a_stream_catches_up, "stream freed afterwards", id="stream freed afterwards"),
    pytest.param(plays.killed_while_putting_aside, "put aside afterwards", id="put aside afterwards"),
    pytest.param(plays.frozen_between_send_and_save, "advance without token", id="advance without token"),
    pytest.param(plays.healed_in_one_tenure, "passed by and not saved", id="passed by and not saved"),
    pytest.param(plays.healed_and_recorded_meanwhile, "memory trusted after retry", id="memory trusted after retry"),
    pytest.param(plays.divided_while_one_is_frozen, "token kept", id="token kept"),
    pytest.param(plays.regrouped_with_a_blocked_stream, "queue ends at partition", id="queue ends at partition"),
]


@pytest.mark.parametrize("drama, fault", CASES)
def test_a_wrong_delivery_is_found_and_the_right_one_is_not(play: Play, drama: plays.Drama, fault: str) -> None:
    assert [] == drama(play, "")
    found = drama(play, fault)
    print(*found, sep="\n")
    assert {"P6"} <= {violation.promise for violation in found}
