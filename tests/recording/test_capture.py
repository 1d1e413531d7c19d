from __future__ import annotations

import subprocess
import sys
from functools import partial

import pytest
from django.test.utils import isolate_apps

from django_eventstore import capture
from django_eventstore.recording.capture_checks import check_captures
from tests.captured.models import Country, Customer, Order, Place, Restaurant, Tag
from tests.processes import ROOT
from tests.recording.capturing import changes, created, deleted, kinds, updated
from tests.shop.events import OrderPlaced

pytestmark = pytest.mark.django_db(transaction=True)


def other(instance):
    raise AssertionError("never called")


# --- declaring ---


def test_the_model_is_returned_unchanged():
    assert Order is capture(Order, created=created)
    assert Order is capture(created=created)(Order)


def test_a_repeated_declaration_tells_once():
    for _ in range(3):
        capture(Order, created=created, updated=updated, deleted=deleted, fields=["note"])
    order = Order.objects.create()
    order.note = "x"
    order.save()
    order.delete()
    assert ["Created", "Updated", "Deleted"] == kinds()


def test_two_declarations_complete_each_other():
    capture(Order, created=created)
    capture(Order, updated=updated, fields=["note"])
    capture(Order, deleted=deleted)
    order = Order.objects.create()
    order.note = order.status = "x"
    order.save()
    order.delete()
    assert ["Created", "Updated", "Deleted"] == kinds()
    assert [{"note": ["", "x"]}] == changes()


@pytest.mark.parametrize(
    "first, second",
    [
        ({"created": created}, {"created": other}),
        ({"updated": updated}, {"updated": other}),
        ({"deleted": deleted}, {"deleted": other}),
        ({"updated": updated, "fields": ["note"]}, {"updated": updated, "fields": ["status"]}),
        ({"updated": updated}, {"updated": updated, "fields": ["status"]}),
    ],
)
def test_declarations_that_contradict_each_other_are_refused(first, second):
    capture(Order, **first)
    with pytest.raises(ValueError, match=r"captured\.Order is captured twice"):
        capture(Order, **second)


@pytest.mark.parametrize(
    "error, wrong",
    [
        (ValueError, lambda: capture(Order)),
        (ValueError, lambda: capture(Order, created=created, fields=["note"])),
        (TypeError, lambda: capture(Order, updated=updated, fields="note")),
        (TypeError, lambda: capture(Order, created="created")),
        (TypeError, lambda: capture("captured.Order", created=created)),
        (TypeError, lambda: capture(created=created)(OrderPlaced)),
    ],
)
def test_what_can_never_work_is_refused(error, wrong):
    with pytest.raises(error):
        wrong()


def test_a_builder_with_a_second_argument_of_its_own_is_called_with_the_instance():
    def build(order, reason="none"):
        return "test.Created", {"reason": reason}

    capture(Order, created=build)
    capture(Place, created=partial(build, reason="partial"))
    Order.objects.create()
    Place.objects.create(name="a")
    assert ["Created", "Created"] == kinds()


@pytest.mark.no_database
def test_a_models_module_may_declare_while_the_registry_is_filling(tmp_path):
    package = tmp_path / "things"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "models.py").write_text(
        """
from django.db import models
from django_eventstore import CapturingQuerySet, capture, suppressed

def told(thing, changes):
    return "things.Told", {name: list(change) for name, change in changes.items()}

@capture(created=told, updated=told, fields=["name", "parts"])
class Thing(models.Model):
    name = models.CharField(max_length=10)
    parts = models.ManyToManyField("things.Part", through="Use")
    objects = CapturingQuerySet.as_manager()

class Part(models.Model):
    pass

class Use(models.Model):
    thing = models.ForeignKey(Thing, on_delete=models.CASCADE)
    part = models.ForeignKey(Part, on_delete=models.CASCADE)
"""
    )
    for apps in (["things", "django_eventstore"], ["django_eventstore", "things"]):
        program = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
import django
from django.conf import settings
database = {{"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
settings.configure(INSTALLED_APPS={apps!r}, USE_TZ=True, DATABASES={{"default": database}})
django.setup()
from django.core.management import call_command
call_command("migrate", run_syncdb=True, verbosity=0)
from things.models import Part, Thing
from django_eventstore import EventStore
thing = Thing.objects.create(name="a")
thing.parts.add(Part.objects.create())
print([entry.data for entry in EventStore().get().entries])
"""
        done = subprocess.run(
            [sys.executable, "-W", "error::RuntimeWarning", "-c", program],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (0, "[{'name': [None, 'a']}, {'parts': [[], [1]]}]\n") == (done.returncode, done.stdout), done.stderr


# --- checks ---


class Elsewhere:
    """A router that writes some models to a database, where the log may or may not be."""

    def __init__(self, *models, log):
        self.models, self.log = models, log

    def db_for_write(self, model, **hints):
        return "other" if model in self.models else None

    def allow_migrate(self, db, app_label, **hints):
        return self.log if (db, app_label) == ("other", "django_eventstore") else None


def ids():
    return [message.id.removeprefix("django_eventstore.") for message in check_captures()]


def test_right_declarations_are_silent():
    capture(Order, created=created, updated=updated, deleted=deleted, fields=["note", "customer_id", "tags"])
    capture(Tag, deleted=deleted)
    assert [] == check_captures()


@pytest.mark.parametrize("model, cls", [(Order, Order), (Place, Restaurant)])
def test_a_captured_model_that_is_written_where_its_log_is_not_is_an_error(settings, model, cls):
    capture(model, deleted=deleted)
    settings.DATABASE_ROUTERS = [Elsewhere(cls, log=False)]
    [message] = check_captures()
    assert ("django_eventstore.E110", cls) == (message.id, message.obj)
    assert "'other'" in message.msg


def test_a_captured_model_with_a_log_of_its_own_is_a_warning(settings):
    capture(Order, deleted=deleted)
    settings.DATABASE_ROUTERS = [Elsewhere(Order, log=True)]
    assert ["W110"] == ids()


@pytest.mark.parametrize(
    "builder",
    [
        OrderPlaced,
        lambda: None,
        lambda instance, changes, more: None,
        lambda instance, *, reason: None,
    ],
)
def test_a_builder_that_cannot_be_called_is_an_error(builder):
    capture(Tag, deleted=builder)
    [message] = check_captures()
    assert "django_eventstore.E111" == message.id
    assert "deleted=" in message.msg


def test_an_async_builder_is_an_error():
    async def build(instance): ...

    capture(Tag, deleted=build)
    assert ["E111"] == ids()


def test_a_builder_that_tells_no_signature_is_taken_as_it_is():
    capture(Tag, deleted=max)
    assert [] == ids()


@pytest.mark.parametrize("name", ["nothing", "lines"])
def test_a_name_that_is_no_field_is_an_error(name):
    capture(Order, updated=updated, fields=["note", name])
    [message] = check_captures()
    assert "django_eventstore.E112" == message.id
    assert repr(name) in message.msg


def test_a_captured_model_whose_bulk_operations_tell_nothing_is_a_warning():
    capture(Customer, updated=updated)
    capture(Country, updated=updated)
    [message] = check_captures()
    assert ("django_eventstore.W111", Customer) == (message.id, message.obj)


def test_a_proxy_is_not_named_beside_its_model():
    capture(Customer, updated=updated)

    with isolate_apps("tests.captured"):

        class Vip(Customer):
            class Meta:
                proxy = True
                app_label = "captured"

    assert ["W111"] == ids()
