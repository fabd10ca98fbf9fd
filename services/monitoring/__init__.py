"""Monitoring: what models did, window by window of event time, and when that should worry somebody."""
