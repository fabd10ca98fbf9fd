"""Who has which seat after which switches (R12)."""

from __future__ import annotations

import pytest

from tests.unit.serving import scene
from tests.unit.serving.scene import Trust
from tidemill.errors import Refused
from tidemill.models.rollout import Roster, Seats

NOWHERE = (0, 0, 0)


@pytest.fixture(scope="module")
def trust(tmp_path_factory: pytest.TempPathFactory) -> Trust:
    return Trust.made(tmp_path_factory.mktemp("trust"))


def seats(trust: Trust, *switches: tuple[str, int]) -> Seats:
    """A model's seats behind (action, version), rollout by rollout."""
    roster = Roster("small", scene.bundle().to_json())
    for rollout, (action, version) in enumerate(switches, 1):
        roster = roster.switched(trust.switch(version, rollout, action=action), NOWHERE, trust.ring)
    return roster.of("m")


@pytest.mark.parametrize("rollout", [1, 2])
def test_a_switch_with_a_rollout_number_that_was_accepted_before_is_refused(trust: Trust, rollout: int) -> None:
    roster = Roster("small", scene.bundle().to_json())
    roster = roster.switched(trust.switch(1, 2), NOWHERE, trust.ring)
    with pytest.raises(Refused, match=f"rollout {rollout} of m comes after rollout 2"):
        roster.switched(trust.switch(3, rollout), NOWHERE, trust.ring)


def test_nobody_takes_the_seat_of_a_first_champion_that_was_revoked(trust: Trust) -> None:
    """So the next champions have no silent shadow."""
    found = seats(trust, ("promote", 1), ("revoke", 1), ("promote", 2), ("promote", 3))
    assert (found.champion and found.champion.version, found.first) == (3, None)
    assert found.shadow(scene.bundle().models["m"]) is None


def test_the_first_champion_keeps_its_seat_while_others_come_and_go(trust: Trust) -> None:
    found = seats(trust, ("promote", 1), ("promote", 2), ("revoke", 2), ("promote", 3))
    shadow = found.shadow(scene.bundle().models["m"])
    assert shadow and shadow.version == 1
