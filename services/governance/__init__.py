"""Governance: gates, people's signed decisions, the order to roll out, and the chain that remembers all of it."""
