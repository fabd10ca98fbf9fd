"""Each benchmark is one file here; it ends with one line of JSON."""
