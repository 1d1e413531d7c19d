"""System checks of the log's database: what the log rests on is there, and the server keeps what it confirms."""

from .databases import check_databases

__all__ = ["check_databases"]
