"""Ingest's ways to the outside: raw topics, the log, dead letters, control events, waiting HTTP callers."""
