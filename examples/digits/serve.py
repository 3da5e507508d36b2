#!/usr/bin/env python3
"""Serves the digits model that train.py has written, over HTTP.

    GET  /healthz   200 while it takes requests, 503 once it is told to end
    GET  /          what the model is
    POST /predict   {"instances": [[64 numbers from 0 to 16], ...]} -> {"predictions": [digit, ...]}

Bad input is answered with 400 and the reason. On SIGTERM it first says that it is not ready, so that
no new requests are sent here, and ends when those under way are answered.
"""

import argparse
import http.server
import json
import os
import pathlib
import signal
import sys
import threading
import time

# Many small requests at a time: one thread each is enough.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

BODY_BYTES_MAX = 1 << 20
INSTANCES_MAX = 1024
IDLE_TIMEOUT_S = 5


def main():
    options = parse_arguments()
    # Blocked here and in every thread to come, so that they are kept until someone waits for them.
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    server = Server((options.host, options.port), Model(options.model))
    loop = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1})
    loop.start()
    print(f"serving {server.model.path} on port {server.server_port}", flush=True)
    signal.sigwait(ends)
    server.draining = True
    # Whoever sends requests here notices at the next probe; until then they are still answered.
    time.sleep(options.drain_seconds)
    server.shutdown()
    loop.join()
    server.server_close()  # Waits for the requests under way.


def parse_arguments():
    env = os.environ
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=pathlib.Path, default=env.get("MODEL_PATH", "/model"), help="model.npz, or its folder")
    parser.add_argument("--host", default="0.0.0.0")
    parser.add_argument("--port", type=int, default=env.get("PORT", "8080"))
    parser.add_argument("--drain-seconds", type=float, default=3.0, help="how long to take requests after SIGTERM")
    return parser.parse_args()


class BadRequest(Exception):
    """What is wrong with a request, in words for the caller."""


class Model:
    def __init__(self, path):
        self.path = path / "model.npz" if path.is_dir() else path
        try:
            with np.load(self.path, allow_pickle=False) as saved:
                self.weights = [saved[name] for name in ("w1", "b1", "w2", "b2")]
                self.pixel_max = float(saved["pixel_max"])
                self.accuracy = float(saved["accuracy"])
        except (OSError, KeyError, ValueError) as error:
            sys.exit(f"cannot load the model {self.path}: {error}")
        self.inputs = self.weights[0].shape[0]

    def describe(self):
        return {"model": "digits", "inputs": self.inputs, "classes": self.weights[3].shape[0], "accuracy": self.accuracy}

    def predict(self, body):
        instances = self.read_instances(body)
        w1, b1, w2, b2 = self.weights
        hidden = np.maximum(instances / self.pixel_max @ w1 + b1, 0.0)
        return {"predictions": (hidden @ w2 + b2).argmax(axis=1).tolist()}

    def read_instances(self, body):
        try:
            content = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise BadRequest(f"the body is not JSON: {error}") from None
        if not isinstance(content, dict) or not isinstance(content.get("instances"), list):
            raise BadRequest('the body must be {"instances": [[...], ...]}')
        rows = content["instances"]
        if not 1 <= len(rows) <= INSTANCES_MAX:
            raise BadRequest(f"{len(rows)} instances; from 1 to {INSTANCES_MAX} are taken at a time")
        for number, row in enumerate(rows):
            if not isinstance(row, list) or len(row) != self.inputs:
                raise BadRequest(f"instance {number} is not a list of {self.inputs} numbers")
            if not all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in row):
                raise BadRequest(f"instance {number} holds something that is no number")
            # Also refuses NaN, infinity and integers too large for a float.
            if not all(-1e6 <= value <= 1e6 for value in row):
                raise BadRequest(f"instance {number} holds a number that is out of range")
        return np.array(rows, dtype=float)


class Server(http.server.ThreadingHTTPServer):
    # `server_close` waits for threads that are not daemons.
    daemon_threads = False
    request_queue_size = 128

    def __init__(self, address, model):
        self.model = model
        self.draining = False
        super().__init__(address, Handler)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body of an answer in one packet each would else wait for one another.
    disable_nagle_algorithm = True
    wbufsize = -1
    timeout = IDLE_TIMEOUT_S

    def do_GET(self):
        if self.path == "/healthz":
            self.answer(503, {"status": "draining"}) if self.server.draining else self.answer(200, {"status": "ok"})
        elif self.path == "/":
            self.answer(200, self.server.model.describe())
        elif self.path == "/predict":
            self.answer(405, {"error": "use POST"})
        else:
            self.answer(404, {"error": f"there is no {self.path}"})

    def do_POST(self):
        body = self.read_body()
        if body is None:
            return
        if self.path != "/predict":
            self.answer(404, {"error": f"there is no {self.path} to post to"})
            return
        try:
            self.answer(200, self.server.model.predict(body))
        except BadRequest as error:
            self.answer(400, {"error": str(error)})

    def read_body(self):
        """The body, or None when it was refused; the connection then ends, since the body is unread."""
        text = self.headers.get("Content-Length", "")
        if not text.isdecimal():
            self.close_connection = True
            self.answer(411, {"error": "Content-Length is missing"})
            return None
        if int(text) > BODY_BYTES_MAX:
            self.close_connection = True
            self.answer(413, {"error": f"the body is longer than {BODY_BYTES_MAX} bytes"})
            return None
        return self.rfile.read(int(text))

    def answer(self, status, content):
        if self.server.draining:
            self.close_connection = True
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)

    def log_request(self, code="-", size="-"):
        # Probes come every second or so and say nothing.
        if self.path != "/healthz":
            super().log_request(code, size)


if __name__ == "__main__":
    main()
