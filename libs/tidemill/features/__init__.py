"""Windowed features over a log: declared as views, folded by kernels, read at each trigger (R15-R17)."""
