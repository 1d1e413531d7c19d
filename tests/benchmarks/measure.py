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
from tests.benchmarks.definition import Measurement, Scale


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.measure")
    parser.add_argument("name")
    parser.add_argument("variant")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    django.setup()
    print(json.dumps(dataclasses.asdict(measurement_of(arguments.name, arguments.variant, quick=arguments.quick))))


def measurement_of(name: str, variant: str, *, quick: bool) -> Measurement:
    """Measure in this process, in which Django is set up."""
    from tests.benchmarks.figures import FIGURES

    return FIGURES[name].variants[variant](Scale(vendor=databases.chosen_vendor(), quick=quick))


if __name__ == "__main__":
    main()
