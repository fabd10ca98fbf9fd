"""Ingest: the log's one writer per shard."""
