"""Lets `python -m alora_desktop` and PyInstaller start the app."""

import sys

from alora_cpp.isolation import freeze_support

if __name__ == "__main__":
    # A frozen app is its own worker process; which has no use for Qt.
    freeze_support()
    from alora_desktop.app import main

    sys.exit(main())
