"""An archive in the layout of the download, made from nothing: implants, motion, X-ray pictures, tables."""
