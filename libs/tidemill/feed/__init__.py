"""Replays history into a stream's raw topics, in known-time order, and waits for decisions where the spec says so (R20)."""
