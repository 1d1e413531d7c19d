"""``python -m tests.servers check SERVICE``: exit 0 when it can be used, else 1 and one line with the reason."""

from __future__ import annotations

import argparse
import sys

from tests.servers.availability import SERVICES, missing


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.servers")
    verbs = parser.add_subparsers(dest="verb", required=True)
    check = verbs.add_parser("check", help="say whether a server, or the programs to start one, can be used")
    check.add_argument("service", choices=sorted(SERVICES))
    reason = missing(parser.parse_args().service)
    if reason is not None:
        print(reason)
    return 0 if reason is None else 1


sys.exit(main())
