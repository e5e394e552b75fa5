"""Lets `python -m alora_desktop` and PyInstaller start the app."""

import sys

from alora_desktop.app import main

if __name__ == "__main__":
    sys.exit(main())
