"""How a kernel is compiled: a plain loop over arrays, its machine code kept beside its file.

No fast-math, so nothing is reordered or contracted (R17). Division is IEEE 754's: with Python's, which raises where the divisor is
0, the fold of the flights' 28 windows took 1.4 to 1.6 times as long.
"""

from __future__ import annotations

import numba

kernel = numba.njit(cache=True, nogil=True, error_model="numpy")
"""Decorates a loop: it is compiled at its first call for each set of argument types. It lets go of Python's lock, so that what waits for the
brokers in threads of its own goes on meanwhile.
"""

part = numba.njit(cache=True, error_model="numpy", forceinline=True)
"""Decorates a piece of kernels: it is put into each of them, since a call would hand every array over as its eight fields or so. The fold
of the flights' 28 windows took 1.2 times as long with calls.
"""

bare_kernel = numba.njit(cache=True, nogil=True, error_model="numpy", _nrt=False)  # type: ignore[call-overload]
"""As `kernel`, for a loop that makes no array: references to arrays are not counted. An array that gets another name would cost an atomic
addition each time: with them the fold of the flights' 28 windows took 1.2 times as long, the walk over their datums 1.4 times.
"""

bare_part = numba.njit(cache=True, error_model="numpy", forceinline=True, _nrt=False)  # type: ignore[call-overload]
"""As `part`, for pieces of those."""
