"""A client that connects, and asks something, as its module is imported."""

import os
import socket

server = socket.create_connection(("127.0.0.1", int(os.environ["ECHO_PORT"])))
answers = server.makefile("r")


def ask(number):
    server.sendall(f"{number}\n".encode())
    return answers.readline().strip()


ask("hello")
