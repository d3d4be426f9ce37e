"""What was measured on the one published raw frame (arXiv 2509.05483, a figure of 336 x 323 px).

Median grey levels of rings about the field's centre, each 10 px of the figure wide, where nothing is in the
beam. Lengths are in pixels of a 1664 x 1600 frame, which has 4.95 to one of the figure.
"""

import numpy as np

FIELD_CENTER_PX, RING_PX, RING_MM = (822, 817), 49.5, 11.27
DIRECTIONS_DEG = {"right": (-40, 30), "up": (-120, -50)}  # from x to y, which runs down
PUBLISHED = {
    "right": [242, 248, 248, 245, 240, 229, 220, 210, 201, 192, 181, 169, 157, 142, 128, 109, 86],
    "up": [250, 254, 252, 241, 222, 208, 191, 174, 158, 143, 129, 113, 96, 78, 60, 44, 30],
}


def open_field(frame, direction):
    """The same medians of a 1664 x 1600 frame."""
    y, x = np.indices(frame.shape) - np.array(FIELD_CENTER_PX[::-1])[:, None, None]
    ring, angle_deg = np.hypot(x, y) // RING_PX, np.degrees(np.arctan2(y, x))
    low_deg, high_deg = DIRECTIONS_DEG[direction]
    wedge = (angle_deg >= low_deg) & (angle_deg <= high_deg)
    return [float(np.median(frame[wedge & (ring == n)])) for n in range(len(PUBLISHED[direction]))]
