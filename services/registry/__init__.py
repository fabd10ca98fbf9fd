"""The registry: every version of every model, where it came from, and where it served."""
