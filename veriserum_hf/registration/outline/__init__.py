"""Registration by the outlines of implants: edges of the images along the ends of rendered shadows."""
