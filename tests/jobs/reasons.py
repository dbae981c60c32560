"""Jobs that fail with errors of many lines, members and causes, or with text that is no UTF-8."""

import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import sqlalchemy


def insert_twice():
    # Or else the connection stays in a pool, and Python 3.13 warns of it in some later test.
    engine = sqlalchemy.create_engine("sqlite://", poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text("CREATE TABLE orders (id INTEGER PRIMARY KEY)"))
        for _ in range(2):
            connection.execute(sqlalchemy.text("INSERT INTO orders VALUES (:id)"), {"id": 7})


def fail_in_a_group():
    raise ExceptionGroup(
        "4 parts", [ValueError("no card"), TypeError("odd"), KeyError("x"), OSError()]
    )


def fail_with_a_cause():
    try:
        open_what_is_not_there()
    except OSError as error:
        raise RuntimeError("no photo") from error


def open_what_is_not_there():
    Path(os.fsdecode(b"caf\xe9.jpg")).read_bytes()


def fail_in_a_pool():
    with ProcessPoolExecutor(1) as pool:
        pool.submit(int, "x").result()


def fail_at_length():
    raise ValueError("x" * 5_000_000)


def return_a_file_name():
    return os.fsdecode(b"caf\xe9.jpg")
