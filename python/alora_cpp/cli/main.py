"""`alora-cli`: picks the command, and turns errors into one line and an exit code.

Results go to stdout, everything else to stderr. Exit codes: 0 done, 1 failed, 2 usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from alora_cpp.cli import bench, chat, convert, demo, doctor, pull, run, show, train
from alora_cpp.cli import eval as evaluate
from alora_cpp.cli import list as list_adapters
from alora_cpp.errors import AloraError
from alora_cpp.labelled_data import DataError

# Each imports what it computes with when it runs, so that help and usage errors do not wait for that.
COMMANDS = (run, chat, demo, train, evaluate, pull, list_adapters, show, convert, bench, doctor)


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    top = argparse.ArgumentParser(
        prog="alora-cli", description="Run intrinsics: small adapters that judge a conversation."
    )
    top.add_argument("--version", action="store_true", help="print the version and exit")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for command in COMMANDS:
        command.add_parser(commands)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        argv: Arguments; those of the process if not given.

    Returns:
        The exit code.
    """
    top = parser()
    arguments = top.parse_args(argv)
    if arguments.version:
        from importlib.metadata import version

        print(f"alora-cli {version('alora_cpp')}")
        return 0
    if arguments.command is None:
        top.print_help(sys.stderr)
        return 2
    try:
        code: int = arguments.run(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader went away; what is still buffered must not complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except DataError as error:
        print(f"alora-cli: error: labelled data that cannot be used\n{error}", file=sys.stderr)
        return 1
    except (AloraError, OSError) as error:
        print(f"alora-cli: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return code


if __name__ == "__main__":
    sys.exit(main())
