"""A proxy that remembers what passes, and cuts it into inputs for the functions of src/fuzz."""

import socket
import struct
import threading

LEN_MAX = 1000  # of an input, in bytes, where it can be cut
ENCRYPTION = {80877103, 80877104}  # SSLRequest, GSSENCRequest
AUTH_CODES = [0, 3, 5, 10, 11, 12, 2, 99]  # as src/fuzz/auth.rs picks them
METHODS = {3: 0, 5: 1, 10: 2}  # the same, by the code that asks for a password, md5 or SCRAM


class Recorder:
    """Listens before a server; `conversations` are pairs of what either side has said, where `asked` may be a number."""

    def __init__(self, server_port):
        self.server_port = server_port
        self.conversations = []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=200)
        self.port = self.listener.getsockname()[1]

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.listener.close()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
                server = socket.create_connection(("127.0.0.1", self.server_port))
            except OSError:
                return
            said = {"client": bytearray(), "server": bytearray(), "asked": None}
            self.conversations.append(said)
            for name, source, target in (("client", client, server), ("server", server, client)):
                threading.Thread(target=self._pass, args=(source, target, said[name]), daemon=True).start()

    @staticmethod
    def _pass(source, target, said):
        try:
            while data := source.recv(65536):
                said += data
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass


def cut(conversations):
    """Inputs by the name of their function."""
    inputs = {name: set() for name in TARGETS}
    for said in conversations:
        client = opening(bytes(said["client"]), bytes(said["server"]), inputs["startup"])
        if client is None:
            continue
        requests, answers = messages(client[0]), messages(client[1])
        passwords = [body for tag, body in requests if tag == "p"]
        requests = [(tag, body) for tag, body in requests if tag != "p"]
        asked = [body for tag, body in answers if tag == "R"]
        exchange(passwords, asked, inputs)
        after = next((n for n, (tag, _) in enumerate(answers) if tag == "Z"), len(answers)) + 1
        programs(requests, inputs)
        replies(requests, answers[after:], said["asked"], inputs["server_messages"])
    return {name: sorted(found) for name, found in inputs.items()}


TARGETS = ("startup", "client_messages", "server_messages", "scram_server", "scram_client", "challenge", "sql")


def opening(client, server, inputs):
    """What comes behind the first packets; `None` if that is nothing, or nothing that can be read."""
    while len(client) >= 8:
        length, code = struct.unpack("!ii", client[:8])
        if not 8 <= length <= 10_000:
            inputs.add(client[:LEN_MAX])
            return None
        inputs.add(client[:length])
        client = client[length:]
        if code not in ENCRYPTION:
            return (client, server) if code >> 16 == 3 else None
        if server[:1] != b"N":
            return None
        server = server[1:]
    return None


def messages(data):
    """Pairs of type and body."""
    found = []
    while len(data) >= 5:
        end = 1 + struct.unpack("!i", data[1:5])[0]
        if not 5 <= end <= len(data):
            break
        found.append((chr(data[0]), data[5:end]))
        data = data[end:]
    return found


def written(tag, body):
    return tag.encode("latin-1") + struct.pack("!i", len(body) + 4) + body


def pieces(all_messages):
    """Runs of whole messages that are not too long."""
    piece = b""
    for tag, body in all_messages:
        data = written(tag, body)
        if len(data) > LEN_MAX:
            continue
        if len(piece) + len(data) > LEN_MAX:
            yield piece
            piece = b""
        piece += data
    if piece:
        yield piece


def some(data):
    """As `Input::some` reads it."""
    return bytes([len(data)]) + data if len(data) < 256 else b"\0"


def exchange(passwords, asked, inputs):
    """Who somebody is."""
    codes = [struct.unpack("!i", body[:4])[0] for body in asked]
    if len(codes) < 2 or codes[0] not in METHODS:
        return
    for secret in range(4):
        inputs["challenge"].add(bytes([0, METHODS[codes[0]], secret, 1]) + b"".join(map(some, passwords)))
    for credentials in range(3):
        told = b"".join(
            bytes([AUTH_CODES.index(code)]) + some(body[4:]) for code, body in zip(codes, asked) if code in AUTH_CODES
        )
        inputs["challenge"].add(bytes([1, credentials, 1, 1]) + told)
    if codes[:3] == [10, 11, 12] and len(passwords) >= 2:
        first = passwords[0].split(b"\0", 1)[1][4:]
        inputs["scram_server"].add(b"\0\0" + some(first) + passwords[1])
        inputs["scram_client"].add(b"\0\0" + some(asked[1][4:]) + asked[2][4:])


def programs(requests, inputs):
    """What clients ask, from the beginning of something."""
    for number, piece in enumerate(pieces(requests)):
        inputs["client_messages"].add(bytes([number % 16, number % 3]) + piece)
    for tag, body in requests:
        if tag == "Q":
            inputs["sql"].add(body.split(b"\0")[0][:LEN_MAX])
        elif tag == "P":
            inputs["sql"].add(body.split(b"\0")[1][:LEN_MAX])


def replies(requests, answers, asked, inputs):
    """What a server answers. Where the client was not one of those of src/fuzz, then as if to one like it."""
    if asked is None:
        tags = [tag for tag, _ in requests[:4]]
        asked = {"Q": 1, "P": 3, "B": 3}.get(tags[0] if tags else "", 0)
    for number, piece in enumerate(pieces(answers)):
        inputs.add(bytes([number % 4, asked]) + piece)
