"""Registration by intensities: image gradients of rendered path lengths are fitted to those of the images."""
