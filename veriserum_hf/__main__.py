"""``python -m veriserum_hf``: the command line."""

from veriserum_hf.cli import main

if __name__ == "__main__":
    main()
