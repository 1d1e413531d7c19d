import threading, time, os
import pytest
from tests.servers import build_slow_log_flush
from tests.conftest import *
import MySQLdb

def test_async(mariadb_server, server_directory, register_database):
    from django.db import connections
    sw = server_directory / "slow"
    srv = mariadb_server(ld_preload=build_slow_log_flush(server_directory), environment={"SLOW_LOG_MS": "300", "SLOW_LOG_SWITCH": str(sw)})
    srv.create_database("shop")
    alias = register_database(srv.django_settings("shop"))
    from django_eventstore.store.sequencing import mysql
    lost = 0
    with connections[alias].cursor() as c:
        c.execute("CREATE TABLE noise (id bigint auto_increment primary key, v int) engine=innodb")
    connections[alias].close()
    for round in range(8):
        c = srv.connect("shop"); k = c.cursor()
        k.execute("SELECT position FROM eventstore_shown"); before = k.fetchone()[0]
        k.execute("SELECT COUNT(*), MAX(position) FROM eventstore_position"); print("round", round, "shown", before, k.fetchall())
        k.execute("INSERT INTO eventstore_entry (type, payload) VALUES ('a.b', '{}')")
        sw.touch()
        stop = threading.Event()
        def noise():
            n = srv.connect("shop"); q = n.cursor()
            try:
                while not stop.is_set():
                    q.execute("INSERT INTO noise (v) VALUES (1)")
            except MySQLdb.Error: pass
        ts = [threading.Thread(target=noise) for _ in range(3)]
        for t in ts: t.start()
        time.sleep(0.13 + 0.05*round)
        res = []
        def pas():
            n = srv.connect("shop"); q = n.cursor()
            t0 = time.monotonic()
            try:
                text = mysql.SEQUENCE.format(max_entries=1000)
                pub = text[text.index("    IF v_count > 0 OR v_shown"):text.index("    SELECT v_count;")]
                assert "UPDATE eventstore_shown" in pub
                text = text.replace(pub, "")
                UP = "UPDATE eventstore_shown SET position = (SELECT head FROM eventstore_head WHERE id = 1) WHERE id = 1"
                UP = "UPDATE eventstore_shown SET position = position + 1 WHERE id = 1" if 0 else UP
                if os.environ["V"] == "1":
                    q.execute(text); q.fetchall()
                    while q.nextset(): pass
                    res.append(time.monotonic()-t0)
                    q.execute(UP)
                elif os.environ["V"] == "2":
                    q.execute(text + ";" + UP)
                res.append((time.monotonic()-t0, q.fetchall()))
            except MySQLdb.Error as e: res.append(e)
        p = threading.Thread(target=pas); t0=time.monotonic(); p.start()
        while True:
            k.execute("SELECT position FROM eventstore_shown"); s = k.fetchone()[0]
            if s > before: break
            time.sleep(0.001)
        t_shown = time.monotonic()-t0
        srv.kill()
        stop.set(); p.join(); [t.join() for t in ts]
        sw.unlink()
        srv.start()
        c = srv.connect("shop"); k = c.cursor()
        k.execute("SELECT MAX(position) FROM eventstore_position"); now = k.fetchone()[0]
        print("shown after %.3f s" % t_shown, "shown", s, "after restart", now, res, "LOST" if (now or 0) < s else "")
        lost += (now or 0) < s
    print("LOST", lost)
