"""Just enough of PostgreSQL's protocol to log in, ask one thing and leave."""

import base64
import hashlib
import hmac
import os
import socket
import struct

TIMEOUT_S = 30
SCRAM_ITERATIONS = 4096
READY = b"Z\0\0\0\5I"
# (password, salt, iterations) → salted password: deriving it is the client's cost, not the pooler's.
_salted_passwords = {}


class ServerError(OSError):
    """An ErrorResponse; an OSError so that whoever waits for readiness tries again."""


def scram_verifier(password):
    """The secret as pg_authid and PgBouncer's auth_file keep it."""
    salt = os.urandom(16)
    salted = _salted(password, salt, SCRAM_ITERATIONS)
    client_key = _hmac(salted, b"Client Key")
    stored, server = hashlib.sha256(client_key).digest(), _hmac(salted, b"Server Key")
    salt, stored, server = (base64.b64encode(raw).decode() for raw in (salt, stored, server))
    return f"SCRAM-SHA-256${SCRAM_ITERATIONS}:{salt}${stored}:{server}"


def _hmac(key, data):
    return hmac.digest(key, data, "sha256")


def _salted(password, salt, iterations):
    key = (password, salt, iterations)
    if key not in _salted_passwords:
        _salted_passwords[key] = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    return _salted_passwords[key]


class Connection:
    """One client connection, logged in by the constructor."""

    def __init__(self, port, database, user, password=None, parameters=None, host="127.0.0.1", tls=None):
        self.password = password
        self.received = b""
        self.tls = tls
        self.socket = socket.create_connection((host, port), TIMEOUT_S)
        try:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if tls:
                self._encrypt(tls)
            told = {"user": user, "database": database, **(parameters or {})}
            startup = "".join(f"{name}\0{value}\0" for name, value in told.items()).encode() + b"\0"
            self.socket.sendall(struct.pack("!ii", len(startup) + 8, 196608) + startup)
            self._until_ready()
        except BaseException:
            self.socket.close()
            raise

    def query(self, text):
        self.ask(text)
        self.answered()

    def ask(self, text):
        self._send(b"Q", text.encode() + b"\0")

    def answered(self):
        self._until_ready()

    def swallow(self, least):
        """Reads an answer of at least so many bytes, whose rows cannot be mistaken for its end; gives its length."""
        buffer, total, tail = bytearray(1 << 20), 0, b""
        while total < least or tail != READY:
            count = self.socket.recv_into(buffer)
            if not count:
                raise ConnectionError("the server closed the connection")
            total += count
            tail = (tail + buffer[max(0, count - len(READY)) : count])[-len(READY) :]
            if tail == READY and total < least:
                raise ServerError(f"the answer has only {total} bytes")
        return total

    def close(self):
        try:
            self._send(b"X", b"")
        except OSError:
            pass
        if self.tls:
            self.tls.leave(self.socket)
        self.socket.close()

    def _encrypt(self, tls):
        self.socket.sendall(struct.pack("!ii", 8, 80877103))
        if self.socket.recv(1) != b"S":
            raise ServerError("TLS is not on offer")
        self.socket = tls.wrap(self.socket)

    def _send(self, kind, body):
        self.socket.sendall(kind + struct.pack("!i", len(body) + 4) + body)

    def _message(self):
        while True:
            if len(self.received) >= 5:
                end = 1 + struct.unpack_from("!i", self.received, 1)[0]
                if len(self.received) >= end:
                    kind, body = self.received[:1], self.received[5:end]
                    self.received = self.received[end:]
                    return kind, body
            chunk = self.socket.recv(65536)
            if not chunk:
                raise ConnectionError("the server closed the connection")
            self.received += chunk

    def _until_ready(self):
        while True:
            kind, body = self._message()
            if kind == b"Z":
                return
            if kind == b"E":
                fields = dict((part[:1], part[1:].decode(errors="replace")) for part in body.split(b"\0") if part)
                raise ServerError(f"{fields.get(b'C', '?????')} {fields.get(b'M', '')}")
            if kind == b"R":
                self._authenticate(struct.unpack_from("!i", body)[0], body[4:])

    def _authenticate(self, step, data):
        if step == 10:
            self.first_bare = "n=,r=" + base64.b64encode(os.urandom(18)).decode()
            first = ("n,," + self.first_bare).encode()
            self._send(b"p", b"SCRAM-SHA-256\0" + struct.pack("!i", len(first)) + first)
        elif step == 11:
            self._send(b"p", self._proof(data.decode()).encode())
        elif step not in (0, 12):
            raise ServerError(f"authentication request {step} is not known here")

    def _proof(self, server_first):
        fields = dict(part.split("=", 1) for part in server_first.split(","))
        salted = _salted(self.password, base64.b64decode(fields["s"]), int(fields["i"]))
        client_key = _hmac(salted, b"Client Key")
        without_proof = "c=biws,r=" + fields["r"]
        message = f"{self.first_bare},{server_first},{without_proof}".encode()
        signature = _hmac(hashlib.sha256(client_key).digest(), message)
        proof = bytes(a ^ b for a, b in zip(client_key, signature))
        return f"{without_proof},p={base64.b64encode(proof).decode()}"
