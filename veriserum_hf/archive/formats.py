"""Names of files that are no JPEG, PNG or TIFF, by their first bytes."""

_FIRST_BYTES = {
    b"GIF8": "a GIF image",
    b"BM": "a BMP image",
    b"DDS ": "a DDS texture",
    b"/* XPM */": "an XPM image",
    b"CI\x2c\x00": "a .cine film of a high-speed camera",
    b"\x00\x00\x00\x0cjP  ": "a JPEG 2000 image",
    b"\xff\x4f\xff\x51": "a JPEG 2000 image",
    b"\xff\x0a": "a JPEG XL image",
    b"\x00\x00\x00\x0cJXL ": "a JPEG XL image",
    b"\x76\x2f\x31\x01": "an OpenEXR image",
    b"#?RADIANCE": "a Radiance HDR image",
    b"8BPS": "a Photoshop image",
    b"\x59\xa6\x6a\x95": "a Sun raster image",
    **{b"P%d" % kind: "a PBM, PGM or PPM image" for kind in range(1, 8)},
    b"\x1aE\xdf\xa3": "a Matroska or WebM film",
    b"%PDF": "a PDF document",
    b"PK\x03\x04": "a ZIP archive",
    b"\x1f\x8b": "a file compressed by gzip",
    b"7z\xbc\xaf": "a 7z archive",
    b"Rar!": "a RAR archive",
    b"\x28\xb5\x2f\xfd": "a file compressed by Zstandard",
    b"\x89HDF": "an HDF5 file",
    b"CDF": "a NetCDF file",
    b"\x93NUMPY": "a NumPy array",
    b"MATLAB": "a MATLAB file",
    b"SIMPLE  =": "a FITS image",
    b"PAR1": "a Parquet file",
    b"SQLite format 3": "an SQLite database",
    b"version https://git-lfs": "a Git LFS pointer (fetch its content with git lfs pull)",
    b"<": "an HTML or XML document",
}
_OF_RIFF = {b"WEBP": "a WebP image", b"AVI ": "an AVI film"}


def is_dicom(first: bytes) -> bool:
    """Whether a file is DICOM by its first 132 bytes; old files begin with their first element."""
    if first[128:132] == b"DICM":
        return True
    group, element, vr, length = first[:2], first[2:4], first[4:6], first[4:8]
    begins = group == b"\2\0" and element in (b"\0\0", b"\1\0", b"\2\0")
    begins |= group == b"\x08\0" and element in (b"\0\0", b"\1\0", b"\5\0", b"\x08\0", b"\x12\0", b"\x16\0")
    explicit = vr in (b"UL", b"OB", b"UI", b"CS", b"DA")
    return begins and (explicit or 0 < int.from_bytes(length, "little") <= 256)


def named(data: bytes) -> str:
    """What a file is, as a clause without a full stop: ``it is a DICOM file``."""
    if is_dicom(data[:132]):
        return "it is a DICOM file"
    if data.startswith(b"RIFF"):
        return f"it is {_OF_RIFF.get(data[8:12], 'a RIFF file')}"
    if data[4:8] == b"ftyp":
        return "it is a HEIF or AVIF image, or an MP4 film"
    for first, name in _FIRST_BYTES.items():
        if data.startswith(first):
            return f"it is {name}"
    if not any(data[:4096]):
        return f"its {len(data)} bytes begin with zeros"
    return f"its {len(data)} bytes are of an unknown kind"
