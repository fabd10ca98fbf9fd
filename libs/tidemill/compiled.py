"""How a kernel is compiled: a plain loop over arrays, its machine code kept beside its file.

No fast-math, so nothing is reordered or contracted (R17). Division is IEEE 754's: with Python's, which raises where the divisor is
0, the fold of the flights' 28 windows took 1.4 to 1.6 times as long.
"""

from __future__ import annotations

import numba

kernel = numba.njit(cache=True, error_model="numpy")
"""Decorates a loop: it is compiled at its first call for each set of argument types."""

part = numba.njit(cache=True, error_model="numpy", forceinline=True)
"""Decorates a piece of kernels: it is put into each of them, since a call would hand every array over as its eight fields or so. The fold
of the flights' 28 windows took 1.2 times as long with calls.
"""
