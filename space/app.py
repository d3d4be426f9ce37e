"""The Space: a simulated trial to match by hand, and predictions of a network in its frames."""

from contextlib import suppress

import typer

from veriserum_hf.app import serve_guests
from veriserum_hf.errors import VeriserumError
from veriserum_hf.jobs import heed_signals


def main(data: str, model: str, host: str = "127.0.0.1", port: int = 7860) -> None:
    """Serve what build.sh has made, to anybody who reaches the host, until it is interrupted."""
    try:
        with suppress(KeyboardInterrupt):
            serve_guests(
                data,
                model,
                host,
                port,
                lambda address: print(f"serving at {address}", flush=True),
                framed_by="https://huggingface.co",  # shows a Space in a frame of its own page
            )
    except VeriserumError as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    with heed_signals():
        typer.run(main)
