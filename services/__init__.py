"""The seven services. Each is its own process; none imports another."""
