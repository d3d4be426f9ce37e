"""Calibration of the image intensifiers."""
