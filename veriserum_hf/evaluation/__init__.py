"""Errors of estimated poses: per frame, in summary, as tables and pictures."""
