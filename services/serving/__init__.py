"""Serving: a prediction for every trigger, by the version that the stream itself says."""
