"""What a failure means: whose fault it is, and whether trying again may help."""

from __future__ import annotations

from enum import Enum

from django.db import DatabaseError, OperationalError

from ..exceptions import EventDecodingError, PermanentError, UnknownEventType

__all__ = ["Fault", "fault_of"]

# SQLSTATE: serialization failure, deadlock, lock not available; idle-in-transaction and transaction time-outs; the session
# or the server was ended, the server starts, an idle session was ended; too many connections.
POSTGRESQL_TRANSIENT = {"40001", "40P01", "55P03", "25P03", "25P04", "57P01", "57P02", "57P03", "57P05", "53300"}
POSTGRESQL_CONNECTION = "08"  # the class of connection exceptions
# Lock wait time-out, deadlock, record changed since the snapshot (10.11 with innodb_snapshot_isolation); too many
# connections, shutdown, connection killed; cannot connect, gone, lost.
MARIADB_TRANSIENT = {1205, 1213, 1020, 1040, 1053, 1927, 2002, 2003, 2006, 2013, 2055}
SQLITE_TRANSIENT = {5, 6}  # SQLITE_BUSY, SQLITE_LOCKED; the low byte of the extended codes
DRIVERS_WITHOUT_NUMBERS = {"sqlite3", "psycopg", "psycopg2"}
DRIVERS = DRIVERS_WITHOUT_NUMBERS | {"MySQLdb", "pymysql"}


class Fault(Enum):
    """Why an event was not delivered."""

    EVENT = "event"
    """The event or its handler; counts as an attempt."""
    PERMANENT = "permanent"
    """The same, and trying again is of no use."""
    UNDECODABLE = "undecodable"
    """Its type is unknown here, or its payload does not fit."""
    CONTENTION = "contention"
    """The database took it back for another transaction's sake, a lock was not to be had, or the connection was lost:
    nobody's fault."""


def fault_of(error: BaseException) -> Fault:
    """Whose fault it is, by the types and codes of errors, never by their text."""
    if isinstance(error, PermanentError):
        return Fault.PERMANENT
    if isinstance(error, (EventDecodingError, UnknownEventType)):
        return Fault.UNDECODABLE
    if (isinstance(error, DatabaseError) or _driver_of(error)) and _is_contention(error):
        return Fault.CONTENTION
    return Fault.EVENT


def _driver_of(error: BaseException | None) -> str:
    """The package that the error comes from, if that is a driver; else nothing."""
    package = type(error).__module__.partition(".")[0]
    return package if package in DRIVERS else ""


def _is_contention(error: BaseException) -> bool:
    """Of an error of Django's, or of a driver's own: what that raises as a cursor is closed Django does not wrap."""
    cause = error.__cause__ if isinstance(error, DatabaseError) else error
    sqlstate = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
    if sqlstate is not None:
        return sqlstate in POSTGRESQL_TRANSIENT or sqlstate.startswith(POSTGRESQL_CONNECTION)
    code = getattr(cause, "sqlite_errorcode", None)
    if code is not None:
        return code & 0xFF in SQLITE_TRANSIENT
    # Python 3.10 tells no code of sqlite3's busy and locked errors, and no server a code of a connection that broke: both are
    # of this class, and so is little else.
    if _driver_of(cause) in DRIVERS_WITHOUT_NUMBERS:
        return type(error).__name__ == OperationalError.__name__
    number = error.args[0] if error.args else None
    return number in MARIADB_TRANSIENT
