"""Contracts: every fact that travels, its type, its topic, its bytes."""
