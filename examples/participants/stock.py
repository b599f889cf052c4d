#!/usr/bin/env python3
"""A participant without any SDK: reserves stock and gives it back, each exactly once in effect.

    python3 stock.py [PORT] [DATABASE]

Needs Python 3.8 and nothing else. The barrier is one table in the service's own database, written in the same local
transaction as the stock itself. With SKALD_SIGNING_KEY (whsec_...) calls must be signed (Standard Webhooks).
"""

import base64
import hashlib
import hmac
import json
import os
import sqlite3
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT = int(sys.argv[1]) if len(sys.argv) > 1 else 8081
DATABASE = sys.argv[2] if len(sys.argv) > 2 else "stock.db"
KEY = os.environ.get("SKALD_SIGNING_KEY")
# What undoes what: a late forward call must not run once its undo was here.
FORWARD = {"compensate": "action", "cancel": "try"}
IN_STOCK = 1000

SCHEMA = """
CREATE TABLE IF NOT EXISTS stock (reserved INTEGER NOT NULL);
INSERT INTO stock SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM stock);
CREATE TABLE IF NOT EXISTS skald_barrier (
    gid TEXT, branch TEXT, operation TEXT, written_by TEXT NOT NULL, status INTEGER, answer TEXT,
    PRIMARY KEY (gid, branch, operation)
);
"""


class Refusal(Exception):
    """What a business says no with; the answer never flips."""

    def __init__(self, code, message):
        super().__init__(message)
        self.answer = {"code": code, "message": message}


def reserve(database, body):
    quantity = int(body["quantity"])
    if quantity < 1:
        raise ValueError("quantity: a whole number from 1")
    (reserved,) = database.execute("SELECT reserved FROM stock").fetchone()
    if reserved + quantity > IN_STOCK:
        raise Refusal("out_of_stock", f"{IN_STOCK - reserved} are left")
    database.execute("UPDATE stock SET reserved = reserved + ?", (quantity,))
    return {"reserved": quantity}


def release(database, body):
    database.execute("UPDATE stock SET reserved = reserved - ?", (int(body["quantity"]),))
    return {"released": int(body["quantity"])}


ROUTES = {"/reserve": reserve, "/release": release}


def barrier(business, gid, branch, operation, body):
    """Status, answer, and what the barrier did: all of it in one local transaction, or nothing."""
    database = sqlite3.connect(DATABASE, timeout=20, isolation_level=None)
    try:
        # One writer at a time, so an attempt under way is waited for.
        database.execute("BEGIN IMMEDIATE")
        forward = FORWARD.get(operation)
        never_ran = False
        if forward:
            # First the forward row: if it goes in, the forward call never ran, and now it never will.
            never_ran = insert(database, gid, branch, forward, written_by=operation)
        if not insert(database, gid, branch, operation, written_by=operation):
            row = database.execute(
                "SELECT written_by, status, answer FROM skald_barrier WHERE gid = ? AND branch = ? AND operation = ?",
                (gid, branch, operation),
            ).fetchone()
            database.execute("COMMIT")
            if row[0] != operation:
                return 409, {"code": "superseded", "message": "its undo was here before"}, "superseded"
            return row[1], json.loads(row[2]), "stored"
        if never_ran:
            status, answer, did = 200, {}, "empty"
        elif forward and refused(database, gid, branch, forward):
            status, answer, did = 200, {}, "executed"
        else:
            status, answer, did = run(database, business, body)
        database.execute(
            "UPDATE skald_barrier SET status = ?, answer = ? WHERE gid = ? AND branch = ? AND operation = ?",
            (status, json.dumps(answer), gid, branch, operation),
        )
        database.execute("COMMIT")
        return status, answer, did
    finally:
        database.close()


def run(database, business, body):
    database.execute("SAVEPOINT business")
    try:
        return 200, business(database, body), "executed"
    except Refusal as refusal:
        database.execute("ROLLBACK TO business")
        return 422, refusal.answer, "executed"


def insert(database, gid, branch, operation, written_by):
    cursor = database.execute(
        "INSERT INTO skald_barrier (gid, branch, operation, written_by, status, answer) VALUES (?, ?, ?, ?, 200, '{}') "
        "ON CONFLICT DO NOTHING",
        (gid, branch, operation, written_by),
    )
    return cursor.rowcount == 1


def refused(database, gid, branch, forward):
    row = database.execute(
        "SELECT status FROM skald_barrier WHERE gid = ? AND branch = ? AND operation = ?", (gid, branch, forward)
    ).fetchone()
    return row[0] >= 400


def is_signed(headers, body):
    """Standard Webhooks: HMAC-SHA256 over id.timestamp.body, not older than five minutes, of this very call."""
    if KEY is None:
        return True
    name, sent = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if name != headers.get("idempotency-key") or not sent.isdigit() or abs(time.time() - int(sent)) > 300:
        return False
    secret = base64.b64decode(KEY[len("whsec_") :])
    expected = hmac.new(secret, f"{name}.{sent}.".encode() + body, hashlib.sha256).digest()
    given = [one[3:] for one in headers.get("webhook-signature", "").split() if one.startswith("v1,")]
    return any(hmac.compare_digest(base64.b64encode(expected).decode(), one) for one in given)


class Service(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        database = sqlite3.connect(DATABASE, timeout=20)
        (reserved,) = database.execute("SELECT reserved FROM stock").fetchone()
        database.close()
        self.answer(200, {"reserved": reserved})

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        business = ROUTES.get(self.path)
        names = ("skald-transaction", "skald-branch", "skald-operation")
        gid, branch, operation = (self.headers.get(name) for name in names)
        if business is None or None in (gid, branch, operation):
            return self.answer(404, {"code": "unknown_operation"})
        if not is_signed(self.headers, body):
            return self.answer(401, {"code": "unsigned"})
        try:
            status, answer, did = barrier(business, gid, branch, operation, json.loads(body or b"null"))
        except (KeyError, TypeError, ValueError) as error:
            return self.answer(422, {"code": "invalid_body", "message": str(error)})
        except sqlite3.OperationalError as error:
            # Nothing was committed: the coordinator calls again.
            return self.answer(503, {"code": "busy", "message": str(error)})
        self.answer(status, answer, did)

    def answer(self, status, body, did=None):
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        if did:
            self.send_header("skald-barrier", did)
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *arguments):
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 128


if __name__ == "__main__":
    with sqlite3.connect(DATABASE) as setup:
        setup.execute("PRAGMA journal_mode = WAL")
        setup.executescript(SCHEMA)
    server = Server(("127.0.0.1", PORT), Service)
    print(f"stock at http://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()
