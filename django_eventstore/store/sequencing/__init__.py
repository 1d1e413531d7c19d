"""How committed entries get their positions: one module per database."""

from .base import Pass, Sequencer
from .choice import in_test_case, sequence, sequencer

__all__ = ["Pass", "Sequencer", "in_test_case", "sequence", "sequencer"]
