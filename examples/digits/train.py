#!/usr/bin/env python3
"""Trains a classifier of handwritten digits, alone or data-parallel over TCP.

The data are scikit-learn's digits (1,797 images of 8 x 8 pixels), the model is a network with one
hidden layer, written in numpy. With WORLD_SIZE > 1 every worker computes the gradient of its share
of each batch, and the workers all-reduce them: rank 0 adds them up and sends the sum to all. So any
number of workers computes what one would (but for rounding).

Where it runs is told by the environment, in PyTorch's convention: RANK, WORLD_SIZE, MASTER_ADDR,
MASTER_PORT. Rank 0 writes to OUTPUT_DIR:

    metrics.jsonl    a line for each epoch: {"epoch", "step", "loss", "accuracy", "seconds"}
    checkpoint.npz   what a restarted job goes on from, written after each epoch
    model.npz        the trained model
"""

import argparse
import json
import os
import pathlib
import signal
import socket
import struct
import sys
import time

# The matrices are so small that more threads only wait for one another.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from sklearn.datasets import load_digits

PIXEL_MAX = 16.0
CLASSES = 10
TEST_SHARE = 0.2
MOMENTUM = 0.9
# The first thing that a worker says to rank 0, so that a stranger is not taken for one.
GREETING = b"fermion-digits-1"
MESSAGE_BYTES_MAX = 64 << 20
RETRY_EVERY_S = 0.2


def main():
    # Process 1 of a container ignores signals that it does not handle.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    options = parse_arguments()
    with Workers.join(options) as workers:
        train(options, workers)


def parse_arguments(words=None):
    env = os.environ
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=64, help="images in a batch, of all workers together")
    parser.add_argument("--hidden", type=int, default=64, help="units in the hidden layer")
    parser.add_argument("--learning-rate", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epoch-seconds", type=float, default=0.0, help="make each epoch last at least so long, to watch it")
    parser.add_argument("--output-dir", type=pathlib.Path, default=pathlib.Path(env.get("OUTPUT_DIR", "output")))
    parser.add_argument("--rank", type=int, default=env.get("RANK", "0"))
    parser.add_argument("--world-size", type=int, default=env.get("WORLD_SIZE", "1"))
    parser.add_argument("--master-addr", default=env.get("MASTER_ADDR", "127.0.0.1"))
    parser.add_argument("--master-port", type=int, default=env.get("MASTER_PORT", "29500"))
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds to wait for another worker")
    options = parser.parse_args(words)
    for name in ("epochs", "batch_size", "hidden", "learning_rate", "world_size", "timeout"):
        if getattr(options, name) <= 0:
            parser.error(f"--{name.replace('_', '-')} must be more than 0")
    if not 0 <= options.rank < options.world_size:
        parser.error(f"rank {options.rank} is not one of {options.world_size}")
    return options


def train(options, workers):
    train_x, train_y, test_x, test_y = load_data(options.seed)
    state = State.start(options, train_x.shape[1])
    output = Output(options) if workers.rank == 0 else None
    if output:
        output.load_checkpoint(state)
    # All go on from where rank 0 stands, whatever their own disks hold.
    workers.broadcast(state.vector)
    print(f"rank {workers.rank} of {workers.world_size}: " + (f"going on after epoch {state.epoch}" if state.epoch else "starting"), flush=True)

    while state.epoch < options.epochs:
        started = time.monotonic()
        loss = run_epoch(options, workers, state, train_x, train_y)
        state.epoch += 1
        accuracy = float(np.mean(predict(state, test_x) == test_y))
        if not np.isfinite(loss):
            sys.exit(f"the loss of epoch {state.epoch} is {loss}: use a lower --learning-rate")
        time.sleep(max(0.0, options.epoch_seconds - (time.monotonic() - started)))
        if output:
            seconds = time.monotonic() - started
            output.epoch_done(state, {"loss": loss, "accuracy": accuracy, "seconds": round(seconds, 3)})
        print(f"rank {workers.rank}: epoch {state.epoch}, loss {loss:.4f}, accuracy {accuracy:.4f}", flush=True)
    if output:
        accuracy = float(np.mean(predict(state, test_x) == test_y))
        output.save_model(state, accuracy)


def load_data(seed):
    """The images as rows between 0 and 1 with their digits, split the same way on every worker."""
    digits = load_digits()
    order = np.random.default_rng(seed).permutation(len(digits.target))
    x, y = digits.data[order] / PIXEL_MAX, digits.target[order]
    test = int(len(y) * TEST_SHARE)
    return x[test:], y[test:], x[:test], y[:test]


class State:
    """Everything that training changes, in one vector of 64-bit floats: what one sends or saves.

    The arrays are views of the vector: weights and biases, their momenta, and [epoch, step].
    """

    def __init__(self, inputs, hidden):
        shapes = [(inputs, hidden), (hidden,), (hidden, CLASSES), (CLASSES,)]
        sizes = [int(np.prod(shape)) for shape in shapes]
        count = sum(sizes)
        self.vector = np.zeros(2 * count + 2)
        self.parameters, self.momenta, self.progress = self.vector[:count], self.vector[count:-2], self.vector[-2:]
        ends = np.cumsum(sizes)
        self.weights = [self.parameters[end - size : end].reshape(shape) for end, size, shape in zip(ends, sizes, shapes)]

    @classmethod
    def start(cls, options, inputs):
        state = cls(inputs, options.hidden)
        random = np.random.default_rng(options.seed)
        for weights in state.weights[::2]:
            weights[:] = random.normal(0.0, np.sqrt(2.0 / weights.shape[0]), weights.shape)
        return state

    @property
    def epoch(self):
        return int(self.progress[0])

    @epoch.setter
    def epoch(self, value):
        self.progress[0] = value

    @property
    def step(self):
        return int(self.progress[1])


def run_epoch(options, workers, state, x, y):
    """Goes through all images once and answers the mean loss. The order depends on seed and epoch alone."""
    order = np.random.default_rng((options.seed, state.epoch)).permutation(len(y))
    total_loss = 0.0
    for start in range(0, len(order), options.batch_size):
        batch = order[start : start + options.batch_size]
        mine = batch[workers.rank :: workers.world_size]
        # The loss goes along with the gradient, so that one exchange is enough.
        sums = np.append(*gradient(state, x[mine], y[mine]))
        workers.all_reduce(sums)
        total_loss += sums[-1]
        state.momenta[:] = MOMENTUM * state.momenta - options.learning_rate * sums[:-1] / len(batch)
        state.parameters += state.momenta
        state.progress[1] += 1
    return float(total_loss / len(order))


def scores(weights, x):
    w1, b1, w2, b2 = weights
    hidden = np.maximum(x @ w1 + b1, 0.0)
    return hidden, hidden @ w2 + b2


def predict(state, x):
    return scores(state.weights, x)[1].argmax(axis=1)


def gradient(state, x, y):
    """The gradient of the cross entropy, summed over the images, as one vector; and the sum itself."""
    hidden, logits = scores(state.weights, x)
    logits -= logits.max(axis=1, keepdims=True)
    log_probabilities = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    rows = np.arange(len(y))
    loss = -log_probabilities[rows, y].sum()
    delta = np.exp(log_probabilities)
    delta[rows, y] -= 1.0
    back = (delta @ state.weights[2].T) * (hidden > 0.0)
    parts = [x.T @ back, back.sum(axis=0), hidden.T @ delta, delta.sum(axis=0)]
    return np.concatenate([part.ravel() for part in parts]), loss


class Output:
    """The files of a job. Each is replaced as a whole, so a kill at any time leaves a sound one."""

    def __init__(self, options):
        self.folder = options.output_dir
        self.folder.mkdir(parents=True, exist_ok=True)
        # A checkpoint of a job with other settings is not one to go on from.
        self.settings = json.dumps([options.hidden, options.batch_size, options.learning_rate, options.seed])

    def load_checkpoint(self, state):
        path = self.folder / "checkpoint.npz"
        if path.exists():
            with np.load(path) as saved:
                if str(saved["settings"]) != self.settings:
                    sys.exit(f"{path} is of a job with other settings: remove it or use another OUTPUT_DIR")
                state.vector[:] = saved["state"]
        # An epoch that was measured but not saved will be done, and measured, again.
        metrics = self.folder / "metrics.jsonl"
        lines = metrics.read_text().splitlines(keepends=True) if metrics.exists() else []
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["epoch"] <= state.epoch]
        self.replace("metrics.jsonl", lambda file: file.write("".join(kept).encode()))

    def epoch_done(self, state, metrics):
        line = json.dumps({"epoch": state.epoch, "step": state.step, **metrics})
        with open(self.folder / "metrics.jsonl", "a") as file:
            file.write(line + "\n")
        self.replace("checkpoint.npz", lambda file: np.savez(file, state=state.vector, settings=self.settings))

    def save_model(self, state, accuracy):
        w1, b1, w2, b2 = state.weights
        arrays = {"w1": w1, "b1": b1, "w2": w2, "b2": b2, "pixel_max": PIXEL_MAX, "accuracy": accuracy}
        self.replace("model.npz", lambda file: np.savez(file, **arrays))

    def replace(self, name, write):
        new = self.folder / (name + ".new")
        with open(new, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, self.folder / name)


class Workers:
    """The workers of a job, connected in a star with rank 0 in the middle."""

    def __init__(self, rank, world_size, peers):
        self.rank, self.world_size = rank, world_size
        # For rank 0: the others by rank. For the others: rank 0 alone.
        self.peers = peers

    @classmethod
    def join(cls, options):
        if options.world_size == 1:
            return cls(0, 1, {})
        connect = accept_workers if options.rank == 0 else connect_to_master
        return cls(options.rank, options.world_size, connect(options))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for peer in self.peers.values():
            peer.close()

    def all_reduce(self, vector):
        """Replaces the vector of each worker by the sum of all. Added in order of rank: always the same sum."""
        if self.rank == 0:
            for rank in sorted(self.peers):
                vector += receive(self.peers[rank], len(vector), rank)
            for rank, peer in self.peers.items():
                send(peer, vector, rank)
        else:
            send(self.peers[0], vector, 0)
            vector[:] = receive(self.peers[0], len(vector), 0)

    def broadcast(self, vector):
        """Replaces the vector of each worker by that of rank 0."""
        if self.rank != 0:
            vector[:] = 0.0
        self.all_reduce(vector)


def accept_workers(options):
    """Rank 0: waits until every other worker has connected."""
    deadline = time.monotonic() + options.timeout
    host = options.master_addr if options.master_addr in ("127.0.0.1", "localhost") else ""
    peers = {}
    with socket.create_server((host, options.master_port), backlog=options.world_size) as server:
        while len(peers) < options.world_size - 1:
            server.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                peer, _ = server.accept()
            except TimeoutError:
                missing = sorted(set(range(1, options.world_size)) - set(peers))
                sys.exit(f"no sign of ranks {missing} after {options.timeout:.0f} s")
            rank = greeted(peer, options)
            if rank is None or rank in peers:
                peer.close()
            else:
                peers[rank] = peer
    return peers


def greeted(peer, options):
    """The rank of the worker that has connected, or None if it is no worker of this job."""
    peer.settimeout(options.timeout)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        greeting = receive_bytes(peer, len(GREETING) + 8)
    except OSError:
        return None
    rank, world_size = struct.unpack("!II", greeting[len(GREETING) :])
    ours = greeting.startswith(GREETING) and world_size == options.world_size and 0 < rank < world_size
    return rank if ours else None


def connect_to_master(options):
    """The others: connect to rank 0, which may still be starting, or not even have a name yet."""
    deadline = time.monotonic() + options.timeout
    while True:
        try:
            peer = socket.create_connection((options.master_addr, options.master_port), timeout=options.timeout)
            break
        except OSError as error:
            if time.monotonic() > deadline:
                sys.exit(f"no connection to rank 0 at {options.master_addr}:{options.master_port} after {options.timeout:.0f} s: {error}")
            time.sleep(RETRY_EVERY_S)
    peer.settimeout(options.timeout)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    peer.sendall(GREETING + struct.pack("!II", options.rank, options.world_size))
    return {0: peer}


def send(peer, vector, rank):
    data = vector.astype("<f8").tobytes()
    try:
        peer.sendall(struct.pack("!Q", len(data)) + data)
    except OSError as error:
        sys.exit(f"rank {rank} is gone: {error}")


def receive(peer, count, rank):
    try:
        (size,) = struct.unpack("!Q", receive_bytes(peer, 8))
        if size != count * 8 or size > MESSAGE_BYTES_MAX:
            sys.exit(f"rank {rank} sent {size} bytes where {count * 8} are due: do all workers have the same settings?")
        return np.frombuffer(receive_bytes(peer, size), "<f8")
    except OSError as error:
        sys.exit(f"rank {rank} is gone: {error}")


def receive_bytes(peer, count):
    data = bytearray(count)
    view = memoryview(data)
    while view:
        received = peer.recv_into(view)
        if received == 0:
            raise ConnectionResetError("the connection was closed")
        view = view[received:]
    return bytes(data)


if __name__ == "__main__":
    main()
