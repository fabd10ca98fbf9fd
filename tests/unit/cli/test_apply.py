"""What `tidemill apply` says before it publishes."""

from __future__ import annotations

from pathlib import Path

from tidemill.cli.apply import unsigned
from tidemill.spec import load
from tidemill.trust import keys

FLIGHTS = Path(__file__).parents[3] / "usecases" / "flights"


def test_a_group_without_keys_is_named_before_anyone_waits_for_it(tmp_path: Path) -> None:
    bundle, trust = load(FLIGHTS), tmp_path / "trust"
    (group,) = bundle.models["late-arrival"].approval.approvers
    (lacking,) = unsigned(bundle, trust, "bob")
    assert lacking.startswith(f"late-arrival asks 1 of {group} to approve, and {trust / group} pins 0 keys")
    keys.generate("ann", tmp_path / "private", trust / group)
    assert unsigned(bundle, trust, "bob") == []
    assert len(unsigned(bundle, trust, "ann")) == 1, "who wrote the change cannot approve it"
