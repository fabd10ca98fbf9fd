"""The feature store: vectors and outcomes as a fold of the log."""
