"""Simulated X-ray images and outlines of meshes."""
