"""Asks serve.py as its callers do, the badly behaved ones included."""

import http.client
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import unittest

from sklearn.datasets import load_digits

FOLDER = pathlib.Path(__file__).parent.parent
PATIENCE_S = 60


class ServeTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.model = pathlib.Path(folder.name)
        env = {**os.environ, "OUTPUT_DIR": folder.name}
        subprocess.run([sys.executable, str(FOLDER / "train.py"), "--epochs=10"], env=env, check=True, stdout=subprocess.DEVNULL)

    def start(self, *words):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        env = {**os.environ, "PORT": str(self.port), "MODEL_PATH": str(self.model)}
        command = [sys.executable, str(FOLDER / "serve.py"), "--host=127.0.0.1", *words]
        process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.addCleanup(process.stdout.close)
        self.assertIn("serving", process.stdout.readline())
        return process

    def ask(self, method, path, body=None, headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        self.addCleanup(connection.close)
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())

    def test_it_knows_the_digits(self):
        self.start()
        digits = load_digits()
        status, answer = self.ask("POST", "/predict", json.dumps({"instances": digits.data[:500].tolist()}))
        self.assertEqual(status, 200)
        right = sum(one == other for one, other in zip(answer["predictions"], digits.target[:500].tolist()))
        self.assertGreater(right, 470)
        self.assertEqual(self.ask("GET", "/healthz"), (200, {"status": "ok"}))
        status, info = self.ask("GET", "/")
        self.assertEqual((status, info["inputs"], info["classes"]), (200, 64, 10))

    def test_bad_input_is_refused_with_the_reason(self):
        self.start()
        row = [0] * 64
        for body, reason in [
            ("", "not JSON"),
            ("{", "not JSON"),
            (b"\xff\xfe\xff", "not JSON"),
            ("[" * 100_000, "not JSON"),
            ("[]", "must be"),
            ('{"instances": 5}', "must be"),
            ('{"instances": []}', "0 instances"),
            (json.dumps({"instances": [[0]] * 2000}), "2000 instances"),
            (json.dumps({"instances": [row, row[1:]]}), "instance 1 is not a list of 64 numbers"),
            (json.dumps({"instances": [["a"] * 64]}), "no number"),
            (json.dumps({"instances": [[True] * 64]}), "no number"),
            (json.dumps({"instances": [[float("nan")] * 64]}), "out of range"),
            (json.dumps({"instances": [[10**400] * 64]}), "out of range"),
        ]:
            status, answer = self.ask("POST", "/predict", body)
            self.assertEqual(status, 400, body[:80])
            self.assertIn(reason, answer["error"])
        self.assertEqual(self.ask("GET", "/healthz")[0], 200)

    def test_what_is_not_there_is_said_so(self):
        self.start()
        self.assertEqual(self.ask("GET", "/none")[0], 404)
        self.assertEqual(self.ask("POST", "/none", "{}")[0], 404)
        self.assertEqual(self.ask("GET", "/predict")[0], 405)
        self.assertEqual(self.ask("POST", "/predict", headers={"Content-Length": str(1 << 40)})[0], 413)

    def test_it_answers_what_is_under_way_before_it_ends(self):
        process = self.start("--drain-seconds=1")
        body = json.dumps({"instances": [[0] * 64]}).encode()
        slow = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)
        self.addCleanup(slow.close)
        # Half a request is under way when the signal comes.
        slow.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body[:10])
        process.send_signal(signal.SIGTERM)
        for _ in range(PATIENCE_S * 100):
            status, _ = self.ask("GET", "/healthz")
            if status == 503:
                break
        self.assertEqual(status, 503)
        self.assertEqual(self.ask("POST", "/predict", body)[0], 200)
        slow.sendall(body[10:])
        self.assertTrue(slow.recv(4096).startswith(b"HTTP/1.1 200"))
        self.assertEqual(process.wait(timeout=PATIENCE_S), 0)

    def test_a_missing_model_is_said_so(self):
        command = [sys.executable, str(FOLDER / "serve.py"), "--model=/nonexistent"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
        self.assertEqual(done.returncode, 1)
        self.assertIn("cannot load the model /nonexistent", done.stderr)

    def test_many_ask_at_once(self):
        self.start()
        body = json.dumps({"instances": [[0] * 64]})
        statuses = []
        threads = [threading.Thread(target=lambda: statuses.append(self.ask("POST", "/predict", body)[0])) for _ in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(statuses, [200] * 50)


if __name__ == "__main__":
    unittest.main()
