"""Levels of the image pyramid."""

from dataclasses import dataclass

from veriserum_hf.geometry import FIELD_MM


@dataclass(frozen=True)
class Scale:
    """One level of the image pyramid, and how far around the implants it extends.

    Attributes
    ----------
    pixel_mm : edge of a pixel on the detector; images with larger pixels keep them.
    blur_px : standard deviation of the blur, in pixels of this scale.
    rays : along each edge of a pixel of this scale, when implants are rendered.
    margin_mm : on the detector, around the implants' projections.
    iterations : of the optimisation, at most.
    cutoff : residuals this many times the robust scale have a quarter of the weight.
    within_mm : accuracy of the meshes.
    stride : of the grid that gradients are kept on, in pixels of this scale.
    tile_px : edge of the squares within which residuals may be correlated, in pixels of this scale.

    """

    pixel_mm: float
    blur_px: float
    rays: int
    margin_mm: float
    iterations: int
    cutoff: float
    within_mm: float
    stride: int = 1
    tile_px: float = 24.0


# Their pixels are those of a whole Veriserum image of 64, 128, 256 and 512 px. The last has the widest blur: a
# hundredth of a pixel shows in the slopes of outlines, not in the few pixels at their centre, which sampling, holders
# and JPEG affect most.
SCALES = (
    Scale(FIELD_MM / 64, blur_px=1.2, rays=2, margin_mm=40.0, iterations=12, cutoff=3.0, within_mm=0.2),
    Scale(FIELD_MM / 128, blur_px=1.5, rays=1, margin_mm=20.0, iterations=12, cutoff=3.0, within_mm=0.15),
    Scale(FIELD_MM / 256, blur_px=1.5, rays=1, margin_mm=8.0, iterations=8, cutoff=3.0, within_mm=0.08),
    Scale(FIELD_MM / 512, blur_px=1.8, rays=2, margin_mm=6.0, iterations=8, cutoff=5.0, within_mm=0.005, stride=2),
)
