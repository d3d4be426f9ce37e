"""Initial poses from the images alone."""
