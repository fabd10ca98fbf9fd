"""The demonstration: the whole loop over a year of real flights, and a report that is computed from the topics alone."""
