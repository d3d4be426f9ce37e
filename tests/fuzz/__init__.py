"""Damaged input of every kind, and what the commands make of it."""
