"""The Space: a simulated trial to match by hand, and predictions of a network in its frames.

``python app.py DATA MODEL [HOST [PORT]]`` serves what `build.sh` has made. HOST is 127.0.0.1 unless it is given.
"""

import sys
from contextlib import suppress

from veriserum_hf.app import serve_guests
from veriserum_hf.jobs import heed_signals


def main(data: str, model: str, host: str = "127.0.0.1", port: str = "7860") -> None:
    """Serve the pages until the program is interrupted."""
    serve_guests(
        data,
        model,
        host,
        int(port),
        lambda address: print(f"serving at {address}", flush=True),
        framed_by="https://huggingface.co",  # shows a Space in a frame of its own page
    )


if __name__ == "__main__":
    with heed_signals(), suppress(KeyboardInterrupt):
        main(*sys.argv[1:])
