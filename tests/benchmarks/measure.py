"""One measurement in a process of its own: ``python -m tests.benchmarks.measure NAME VARIANT [--quick]``.

Runs on the database that the environment names (see tests/databases.py), as the figure's ``prepare`` left it, and prints one
line of JSON: the fields of a Measurement.
"""

from __future__ import annotations

import argparse
import dataclasses
import json

import django

from tests import databases
from tests.benchmarks.definition import Scale


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.measure")
    parser.add_argument("name")
    parser.add_argument("variant")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    django.setup()

    from tests.benchmarks.figures import FIGURES

    scale = Scale(vendor=databases.chosen_vendor(), quick=arguments.quick)
    measurement = FIGURES[arguments.name].variants[arguments.variant](scale)
    print(json.dumps(dataclasses.asdict(measurement)))


if __name__ == "__main__":
    main()
