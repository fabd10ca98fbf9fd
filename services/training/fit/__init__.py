"""From a run's request to its artifact: features topic -> dataset -> candidates -> evaluation -> files.

Everything here is a function of the request, of the ends of other partitions, and of what stands before both: no clock, no machine.
"""
