"""From a run's request to its artifact: features topic -> dataset -> candidates -> evaluation -> files.

Everything here is a function of the request and of what stands in the log before its position: no clock, no machine.
"""
