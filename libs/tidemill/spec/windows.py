"""How a window is cut in tiles."""

from __future__ import annotations

from tidemill.spec.values import DAY, HOUR, MINUTE, SECOND, format_duration

LONGEST = 90 * DAY
"""Of a window and of a lateness: an entity's tiles are there for all of both, whether anything happened or not."""
_STEPS = sorted(
    {unit * n for unit in (SECOND, MINUTE) for n in (1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30)} | {HOUR}, reverse=True
)  # the divisors of an hour: tiles of all views nest, and any lateness of whole hours is a whole number of tiles


def slide(window: int) -> int:
    """The tile length (us) of a window (us): a twelfth up to 1 h, a 24th up to 1 d, else 1 h; rounded down to a divisor
    of an hour that divides the window, so 1h -> 5m, 6h -> 15m, 24h -> 1h, 7d -> 1h. At least 5 minutes where the window
    is longer than an hour and can be cut so. Raises ValueError.
    """
    if not SECOND <= window <= LONGEST or window % SECOND:
        raise ValueError(f"a window of {format_duration(window)} is not possible: whole seconds, up to {format_duration(LONGEST)}")
    wanted = window // 12 if window <= HOUR else max(window // 24, 5 * MINUTE) if window <= DAY else HOUR
    return next((step for step in _STEPS if step <= wanted and window % step == 0), SECOND)
