"""Signed decisions: Ed25519 keys of people, DSSE envelopes over in-toto statements, and the one function that verifies them."""
