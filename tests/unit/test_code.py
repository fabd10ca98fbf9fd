"""Which code made something."""

from __future__ import annotations

import pytest

from tidemill.code import code_digest, mark, marked, syntax

SAID = b'''"""A module."""
WIDTH = 3
"""How wide."""


class Box:
    """A box."""

    def area(self) -> int:
        """Its area."""
        return WIDTH * 2
'''
SHORT = b"WIDTH=3 # three\nclass Box:\n def area(self)->int: return WIDTH*2"


def test_comments_docstrings_and_layout_do_not_count() -> None:
    assert syntax(SAID) == syntax(SHORT)


@pytest.mark.parametrize(("old", "new"), [(b"* 2", b"* 3"), (b"WIDTH = 3", b"WIDTH = 4"), (b"-> int", b"-> float")])
def test_whatever_else_is_changed_counts(old: bytes, new: bytes) -> None:
    assert syntax(SAID) != syntax(SAID.replace(old, new))


def test_a_digest_is_of_all_packages_named_and_a_mark_is_its_beginning() -> None:
    one, two = code_digest("tidemill.features"), code_digest("tidemill.features", "tidemill.spec")
    assert one != two
    assert one.startswith(f"sha256:{marked(mark(one))}")
