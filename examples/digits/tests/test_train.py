"""Runs train.py as a job does: alone, with several workers, and killed in the middle."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

import numpy as np

TRAIN = pathlib.Path(__file__).parent.parent / "train.py"
PATIENCE_S = 120


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def start(folder, *words, **env):
    env = {**os.environ, "OUTPUT_DIR": str(folder), **{key: str(value) for key, value in env.items()}}
    return subprocess.Popen(
        [sys.executable, str(TRAIN), *words], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def metrics(folder):
    path = folder / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


class TrainTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def finish(self, process):
        self.addCleanup(process.kill)
        output, _ = process.communicate(timeout=PATIENCE_S)
        return process.returncode, output

    def run_alone(self, name, *words):
        code, output = self.finish(start(self.folder / name, *words))
        self.assertEqual(code, 0, output)
        return metrics(self.folder / name)

    def run_together(self, name, count, *words):
        port = free_port()
        env = {"WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        workers = [start(self.folder / f"{name}-{rank}", *words, RANK=rank, **env) for rank in range(count)]
        for code, output in [self.finish(worker) for worker in workers]:
            self.assertEqual(code, 0, output)
        return metrics(self.folder / f"{name}-0")

    def test_one_worker_learns_the_digits(self):
        lines = self.run_alone("alone")
        self.assertEqual([line["epoch"] for line in lines], list(range(1, 21)))
        self.assertGreater(lines[-1]["accuracy"], 0.95)
        self.assertLess(lines[-1]["loss"], lines[0]["loss"])
        with np.load(self.folder / "alone/model.npz") as model:
            self.assertEqual(model["w1"].shape, (64, 64))

    def test_the_same_seed_gives_the_same_model(self):
        for name in ("one", "two"):
            self.run_alone(name, "--epochs=3")
        models = [dict(np.load(self.folder / name / "model.npz")) for name in ("one", "two")]
        for key in models[0]:
            np.testing.assert_array_equal(models[0][key], models[1][key])

    def test_workers_together_compute_what_one_does_alone(self):
        alone = self.run_alone("alone", "--epochs=4")
        together = self.run_together("together", 3, "--epochs=4")
        self.assertEqual([line["step"] for line in together], [line["step"] for line in alone])
        np.testing.assert_allclose([line["loss"] for line in together], [line["loss"] for line in alone], rtol=1e-6)
        self.assertFalse((self.folder / "together-1/model.npz").exists(), "only rank 0 writes")

    def test_a_killed_job_goes_on_where_it_was(self):
        whole = self.run_alone("whole", "--epochs=6")
        words = ("--epochs=6", "--epoch-seconds=0.5")
        killed = start(self.folder / "killed", *words)
        deadline = time.monotonic() + PATIENCE_S
        while len(metrics(self.folder / "killed")) < 2:
            self.assertLess(time.monotonic(), deadline, "it does not get to its second epoch")
            time.sleep(0.02)
        killed.kill()
        self.finish(killed)
        code, output = self.finish(start(self.folder / "killed", *words))
        self.assertEqual(code, 0, output)
        self.assertIn("going on after epoch", output)
        lines = metrics(self.folder / "killed")
        self.assertEqual([line["epoch"] for line in lines], list(range(1, 7)))
        self.assertEqual([line["loss"] for line in lines], [line["loss"] for line in whole])

    def test_a_checkpoint_of_other_settings_is_refused(self):
        self.run_alone("job", "--epochs=1")
        code, output = self.finish(start(self.folder / "job", "--epochs=2", "--hidden=32"))
        self.assertEqual(code, 1, output)
        self.assertIn("other settings", output)

    def test_a_worker_that_never_comes_ends_the_job_with_a_reason(self):
        env = {"WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
        for rank, reason in ((0, "no sign of ranks [1]"), (1, "no connection to rank 0")):
            code, output = self.finish(start(self.folder / "job", "--timeout=1", RANK=rank, **env))
            self.assertEqual(code, 1, output)
            self.assertIn(reason, output)

    def test_a_worker_that_is_killed_ends_the_others(self):
        env = {"WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
        first, second = (start(self.folder / f"job-{rank}", "--epoch-seconds=0.2", RANK=rank, **env) for rank in range(2))
        deadline = time.monotonic() + PATIENCE_S
        while not metrics(self.folder / "job-0"):
            self.assertLess(time.monotonic(), deadline, "it does not get to its first epoch")
            time.sleep(0.02)
        second.kill()
        self.finish(second)
        code, output = self.finish(first)
        self.assertEqual(code, 1, output)
        self.assertIn("rank 1 is gone", output)

    def test_it_ends_when_told_to(self):
        process = start(self.folder / "job", "--epoch-seconds=60")
        self.assertIn("starting", process.stdout.readline())
        process.send_signal(signal.SIGTERM)
        code, output = self.finish(process)
        self.assertEqual(code, 128 + signal.SIGTERM, output)


if __name__ == "__main__":
    unittest.main()
