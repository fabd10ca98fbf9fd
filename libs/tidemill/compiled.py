"""How a kernel is compiled: a plain loop over arrays, its machine code kept beside its file.

No fast-math, so nothing is reordered or contracted (R17). Division is IEEE 754's: Python's, which raises where the divisor is 0, made a
fold of many windows twice as slow, as no call that may raise is kept in registers.
"""

from __future__ import annotations

import numba

kernel = numba.njit(cache=True, error_model="numpy")
"""Decorates a loop: it is compiled at its first call for each set of argument types."""
