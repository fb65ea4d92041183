"""sqlite.py DATABASE JOURNAL LOCKING: a transaction for each line that is read; `ok` once it is committed, or why it is not.

A connection that has seen an error is given up, as a program that takes it seriously does.
"""
import sqlite3
import sys

database, journal, locking = sys.argv[1:]


def connect():
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute(f"PRAGMA locking_mode={locking}")
    found = connection.execute(f"PRAGMA journal_mode={journal}").fetchone()[0]
    if found != journal:
        raise sqlite3.OperationalError(f"journal mode {found}")
    connection.execute("PRAGMA synchronous=FULL")
    # Often, so that many checkpoints are interrupted.
    connection.execute("PRAGMA wal_autocheckpoint=50")
    connection.execute("CREATE TABLE IF NOT EXISTS lines (name TEXT PRIMARY KEY, content TEXT)")
    return connection


connection = None
for name in sys.stdin:
    try:
        connection = connection or connect()
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO lines VALUES (?, ?)", (name.strip(), name * 100))
        connection.execute("COMMIT")
        print("ok", flush=True)
    except sqlite3.Error as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        if connection:
            try:
                connection.close()
            except sqlite3.Error:
                pass
        connection = None
