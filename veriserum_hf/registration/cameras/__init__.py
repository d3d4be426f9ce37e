"""Cameras refined from implants of known shape: one adjustment of many frames, their poses and the rig together."""
