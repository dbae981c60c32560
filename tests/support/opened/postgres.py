"""A connection to PostgreSQL that is opened and used as its module is imported."""

import os

import psycopg

connection = psycopg.connect(os.environ["POSTGRES"], autocommit=True)


def ask(number):
    question = "SELECT 'answer to ' || %s::text FROM pg_sleep(0.01)"
    return connection.execute(question, [number]).fetchone()[0]


ask("hello")
