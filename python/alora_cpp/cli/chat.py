"""`alora-cli chat`: a conversation at a terminal, with verdicts beside each turn."""

from __future__ import annotations

import argparse
from typing import Any

from alora_cpp.cli import options


def add_parser(commands: Any) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "chat",
        help="talk with a model, with verdicts beside each turn",
        description="Talk with a model at a terminal, or with a message a line from a pipe. Intrinsics that judge "
        "questions are asked after your turn, all others after the reply. /help lists the commands.",
    )
    parser.add_argument("model", metavar="MODEL", help=options.MODEL_HELP)
    parser.add_argument(
        "--intrinsic",
        metavar="NAME[,NAME]",
        type=options.names,
        help="which to ask (default: all found that judge, each in one variant, by documents where there are some)",
    )
    options.add_conversation_options(parser)
    parser.add_argument(
        "--guard", metavar="NAME[,NAME]", type=options.names, default=[], help="stop a reply when one of these flags it"
    )
    parser.add_argument("--load", metavar="FILE", help="go on with a conversation that /save wrote")
    parser.add_argument(
        "-n", "--predict", "--n-predict", type=int, default=256, metavar="N", help="longest reply (256)"
    )
    parser.add_argument("--temp", type=float, default=0.0, metavar="N", help="temperature (default: 0, greedy)")
    parser.add_argument("-s", "--seed", type=int, default=0, metavar="N", help="seed of the sampling (default: 0)")
    parser.add_argument("--context-shift", action="store_true", help="forget the oldest turns when the context is full")
    options.add_model_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs the command."""
    # The command line starts without what these import.
    from alora_cpp.cli.chat_session import Session, documents_in
    from alora_cpp.cli.unnamed import load_unnamed

    options.show_log(arguments)
    documents = documents_in(arguments.documents)
    with options.load_model(arguments.model, n_gpu_layers=arguments.gpu_layers) as model:
        options.load_intrinsics(model, [*(arguments.intrinsic or ()), *arguments.guard], arguments)
        left_out = load_unnamed(model, arguments.switch_folder) if arguments.intrinsic is None else []
        session = Session(model, arguments, documents, left_out)
        try:
            return session.run()
        finally:
            session.chat.close()
