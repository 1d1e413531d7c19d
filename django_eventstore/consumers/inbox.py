"""once(): for effects that do not share a transaction with the consumer's offset."""

from __future__ import annotations

from datetime import timedelta

from django.db import connections, router, transaction

from ..models import InboxKey
from ..models.fields import DatabaseNow

__all__ = ["forget_keys", "once"]


def once(key: str, *, scope: str = "", using: str | None = None) -> bool:
    """True the first time this key is seen in the open transaction's database, False ever after.

    The key is kept if the transaction commits, so what it guards must be in the same one: a handler whose models live on
    another database than the log writes there under ``once(str(entry.event_id), using="that")``, and a repeated delivery
    changes nothing. An effect outside of any transaction, a mail or a payment, is *not* made to happen once by it: give the
    receiver the event's id to recognise a repeat by. Two callers with the same key wait for each other.

    ``scope``: whose keys they are, such as the handler's name. Raises TransactionManagementError outside a transaction, and
    ValueError for a key that is empty or longer than 200 characters.
    """
    alias = using or router.db_for_write(InboxKey)
    if not 0 < len(key) <= 200 or len(scope) > 150:
        raise ValueError("A key has 1 to 200 characters, and its scope at most 150.")
    connection = connections[alias]
    if not connection.in_atomic_block:
        raise transaction.TransactionManagementError(
            "once() belongs into the transaction of what it guards: call it inside atomic()."
        )
    ignore = connection.vendor == "mysql"
    insert, suffix = ("INSERT IGNORE", "") if ignore else ("INSERT", "ON CONFLICT DO NOTHING")
    column = connection.ops.quote_name("key")
    with connection.cursor() as cursor:
        cursor.execute(
            f"{insert} INTO eventstore_inbox_key (scope, {column}) VALUES (%s, %s) {suffix}",
            [scope, key],
        )
        return bool(cursor.rowcount == 1)


def forget_keys(*, older_than: timedelta, using: str | None = None) -> int:
    """Remove keys that are older; what is delivered again after that is done again. Returns how many."""
    alias = using or router.db_for_write(InboxKey)
    removed: int = InboxKey.objects.using(alias).filter(at__lt=DatabaseNow() - older_than).delete()[0]
    return removed
