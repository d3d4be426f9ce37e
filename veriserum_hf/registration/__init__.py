"""Poses to the accuracy of radiostereometry: rendered implants compared with both images of a frame."""
