"""Tidemill: an event-driven MLOps platform over Kafka."""
