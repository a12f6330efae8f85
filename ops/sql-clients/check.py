"""What analysts' tools ask of the SQL port, with clickhouse-connect as it comes, curl and `tidings sql`: run by
./ops/sql-clients/run with the program as its argument.

A Tidings of its own is started; messages are sent through its front door, and what is asked for is compared with what was
sent."""

import gzip
import json
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

import clickhouse_connect
from clickhouse_connect.driver.exceptions import DatabaseError

FRESH_SECONDS_MAX = 2.0
START_SECONDS_MAX = 60
ROOT = pathlib.Path(__file__).resolve().parents[2]
TIDINGS = sys.argv[1]


def started(folder):
    """A Tidings in that folder, the address of its door and that of its SQL port."""
    command = [TIDINGS, "up", "--listen", "127.0.0.1:0", "--data", folder, "--set", "archive.http_listen=127.0.0.1:0",
               "--set", "archive.analyst_max_result_rows=5000"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=open(folder + ".log", "w"), text=True)
    door = sql = None
    for line in process.stdout:
        found = re.search(r"http://(127\.0\.0\.1:\d+)", line)
        if found and "/?query=" in line:
            sql = found[1]
        elif found and door is None:
            door = found[1]
        if door and sql:
            return process, door, sql
    raise SystemExit("it did not start: " + open(folder + ".log").read())


def call(method, path, token=None, body=None):
    headers = {"content-type": "application/json"}
    if token:
        headers["authorization"] = f"Bearer {token}"
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(f"http://{door}{path}", data=data, method=method, headers=headers)
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.loads(answer.read() or b"{}")


def refused(name, what, *words):
    try:
        what()
    except DatabaseError as error:
        assert all(word in str(error) for word in words), f"{name}: {error}"
        return
    raise SystemExit(f"{name} was not refused")


def until(name, seconds, ask):
    """Asks until the answer is true; how long that took."""
    begun = time.monotonic()
    while not ask():
        assert time.monotonic() - begun < seconds, f"{name}: not within {seconds} s"
    return time.monotonic() - begun


def tidings_sql(*arguments, code=0):
    ended = subprocess.run([TIDINGS, "sql", *arguments], capture_output=True, timeout=60, stdin=subprocess.DEVNULL)
    assert ended.returncode == code, (arguments, ended)
    return ended.stdout.decode(errors="replace") if code == 0 else ended.stderr.decode()


def freshness(client):
    """A message is in the archive soon after it was sent, each time."""
    ann, bob = (
        call("POST", "/v1/accounts", body={"username": name, "password": "long enough 1"}) for name in ("ann", "bob")
    )
    group = call("POST", "/v1/conversations", ann["token"], {"kind": "group", "title": "us", "member_ids": [bob["user_id"]]})
    conversation = group.get("conversation_id") or group["id"]
    asked = {"conversation": conversation}
    # The schema is made by the projection, after the doors are open.
    def schema():
        try:
            return client.query("SELECT count() FROM delivery_latency").result_rows is not None
        except DatabaseError:
            return False
    until("the schema", START_SECONDS_MAX, schema)
    slowest = 0.0
    for number in range(12):
        call("POST", f"/v1/conversations/{conversation}/messages", ann["token"],
             {"client_message_id": str(number), "text": f"message {number}"})
        sql = "SELECT count() FROM messages WHERE conversation_id = {conversation:UUID}"
        there = lambda: client.query(sql, parameters=asked).first_row == (number + 1,)
        slowest = max(slowest, until("a message in the archive", 20, there))
    print(f"slowest of 12 messages: in the archive {slowest:.2f} s after it was sent")
    assert slowest <= FRESH_SECONDS_MAX, f"{slowest:.2f} s, and {FRESH_SECONDS_MAX} s are promised"
    return conversation


def python(client, conversation):
    """clickhouse-connect: rows, streams, parameters, settings, compression, refusals."""
    asked = {"conversation": conversation}
    texts = client.query(
        "SELECT seq, text FROM messages WHERE conversation_id = {conversation:UUID} ORDER BY seq", parameters=asked)
    assert [row[1] for row in texts.result_rows] == [f"message {number}" for number in range(12)]
    assert texts.column_names == ("seq", "text")
    with client.query_row_block_stream("SELECT number FROM numbers(5000)") as blocks:
        assert sum(len(block) for block in blocks) == 5000
    members = client.query("SELECT role FROM memberships WHERE conversation_id = {conversation:UUID} ORDER BY role",
                           parameters=asked)
    assert members.result_rows == [("member",), ("owner",)], members.result_rows
    packed = client.query("SELECT repeat('tidings', 10000)").first_row[0]
    assert packed == "tidings" * 10000
    for codec in ("lz4", "gzip"):
        other = clickhouse_connect.get_client(host=client_host, port=client_port, compress=codec)
        assert other.query("SELECT repeat('tidings', 10000)").first_row[0] == packed, codec
    assert client.query("SELECT 1", settings={"max_threads": 1}).first_row == (1,)
    refused("an insert", lambda: client.insert("receipts", [[1]], column_names=["seen_seq"]))
    refused("a command", lambda: client.command("DROP TABLE receipts"), "READONLY")
    refused("a long result", lambda: client.query("SELECT number FROM numbers(100000)"), "archive.analyst_max_result_rows")
    refused("an unknown table", lambda: client.query("SELECT * FROM nowhere"), "UNKNOWN_TABLE")
    refused("other people's queries", lambda: client.query("SELECT * FROM system.processes"), "ACCESS_DENIED")


def curl(address):
    base = ["curl", "--silent", "--show-error", "--fail-with-body"]
    url = f"http://{address}/?query=" + urllib.parse.quote("SELECT count() FROM messages")
    assert subprocess.run([*base, url], capture_output=True, check=True).stdout == b"12\n"
    url = f"http://{address}/?query=" + urllib.parse.quote("SELECT repeat('a', 5000)")
    assert subprocess.run([*base, "--compressed", url], capture_output=True, check=True).stdout == b"a" * 5000 + b"\n"
    raw = subprocess.run([*base, "-H", "accept-encoding: gzip", url], capture_output=True, check=True).stdout
    assert gzip.decompress(raw) == b"a" * 5000 + b"\n"


def command_line(address, folder, conversation):
    """`tidings sql`: formats, parameters, files, standard input, errors and their exit codes."""
    there = ["--url", f"http://{address}"]
    count = "SELECT count() AS messages FROM messages WHERE conversation_id = {conversation:UUID}"
    ask = lambda *more: tidings_sql(*there, "--param", f"conversation={conversation}", *more)
    assert ask(count) == '"messages"\n12\n'
    assert "│       12 │" in ask("--output", "table", count)
    assert json.loads(ask("--output", "json", count))["data"] == [{"messages": 12}]
    assert ask("--output", "jsonl", count) == '{"messages":12}\n'
    assert ask(count + " FORMAT TSV") == "12\n"
    file = pathlib.Path(folder, "x.parquet")
    ask("--output", "parquet", "--output-file", str(file), count)
    assert file.read_bytes()[:4] == b"PAR1" == file.read_bytes()[-4:]
    script = pathlib.Path(folder, "x.sql")
    script.write_text("-- two; of them\nSELECT 'a;b';\nSELECT 2;\n")
    assert tidings_sql(*there, "--file", str(script)) == "\"'a;b'\"\n\"a;b\"\n\"2\"\n2\n"
    for sql, words in [
        ("SELECT * FROM nowhere", ["UNKNOWN_TABLE"]),
        ("SELEC 1", ["Syntax error: failed at position 1 (SELEC)"]),
        ("DROP TABLE receipts", ["READONLY"]),
        ("SELECT number FROM numbers(100000)", ["archive.analyst_max_result_rows", "Hint"]),
        ("SELECT {x:UInt8}", ["x"]),
    ]:
        said = tidings_sql(*there, sql, code=1)
        assert said.startswith("error: ") and all(word in said for word in words), said
    assert "--data" in tidings_sql("--url", "http://127.0.0.1:9", "SELECT 1", code=1)
    assert "archive.http_listen" in tidings_sql("--url", f"http://{door}", "SELECT 1", code=1)
    # The program that runs on the folder is asked.
    counted = "SELECT count() > 0 AS found FROM messages"
    assert tidings_sql("--data", folder, counted) == tidings_sql(*there, counted)
    # Ctrl-C.
    slow = "SELECT count() FROM numbers(600) WHERE NOT ignore(sleepEachRow(0.1)) SETTINGS max_block_size = 1"
    asking = subprocess.Popen([TIDINGS, "sql", *there, slow], stderr=subprocess.PIPE)
    time.sleep(1)
    asking.send_signal(signal.SIGINT)
    assert asking.wait(10) == 130 and asking.stderr.read() == b"cancelled\n"


def notebook(address):
    """The notebook's cells, one after the other."""
    document = json.loads((ROOT / "docs/analytics.ipynb").read_text())
    assert document["nbformat"] == 4
    scope = {}
    cells = ["".join(cell["source"]) for cell in document["cells"] if cell["cell_type"] == "code"]
    assert len(cells) >= 4
    for cell in cells:
        exec(compile(cell.replace("127.0.0.1:8123", address), "docs/analytics.ipynb", "exec"), scope)


with tempfile.TemporaryDirectory() as root:
    folder = root + "/data"
    process, door, address = started(folder)
    try:
        client_host, client_port = address.split(":")[0], int(address.split(":")[1])
        client = clickhouse_connect.get_client(host=client_host, port=client_port)
        conversation = freshness(client)
        python(client, conversation)
        curl(address)
        command_line(address, folder, conversation)
        notebook(address)
        client.close()
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    # The same from its data folder, now that it does not run.
    assert tidings_sql("--data", folder, "SELECT count() FROM messages FORMAT TSV") == "12\n"
print("fine")
