"""Veriserum."""
