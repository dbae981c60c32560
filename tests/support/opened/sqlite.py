"""A SQLite database that is opened and used as its module is imported."""

import os
import sqlite3

database = sqlite3.connect(os.environ["SQLITE"], isolation_level=None)
# What is temporary belongs to the connection, and so to the process that has opened it.
database.execute("CREATE TEMP TABLE opener AS SELECT ? AS pid", [os.getpid()])


def ask(number):
    question = "SELECT 'answer to ' || ? FROM opener WHERE pid = ?"
    return database.execute(question, [number, os.getpid()]).fetchone()[0]


ask("hello")
