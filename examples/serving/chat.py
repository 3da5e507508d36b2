#!/usr/bin/env python3
"""Asks an OpenAI-compatible chat endpoint one question and prints the answer as it comes.

    chat.py http://127.0.0.1:8080/v1 "What is the capital of France?"

A bearer token is taken from the environment variable FERMION_TOKEN, if it is set.
"""

import argparse
import json
import os
import sys
import urllib.error
import urllib.request

TIMEOUT_S = 120


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url", help="the API's base, which ends in /v1")
    parser.add_argument("question")
    # Small models answer plain questions better with a plain instruction than with their own.
    parser.add_argument("--system", default="You are a helpful assistant.")
    parser.add_argument("--model", default="SmolLM2-135M-Instruct")
    parser.add_argument("--max-tokens", type=int, default=64)
    options = parser.parse_args()
    try:
        for piece in stream(options):
            print(piece, end="", flush=True)
    except urllib.error.HTTPError as error:
        sys.exit(f"{options.url} answered {error.code}: {error.read(2000).decode(errors='replace')}")
    except OSError as error:
        sys.exit(f"no answer from {options.url}: {error}")
    print()


def stream(options):
    """Yields the pieces of the answer."""
    messages = [{"role": "system", "content": options.system}, {"role": "user", "content": options.question}]
    body = {"model": options.model, "messages": messages, "max_tokens": options.max_tokens, "temperature": 0, "stream": True}
    request = urllib.request.Request(options.url.rstrip("/") + "/chat/completions", json.dumps(body).encode())
    request.add_header("Content-Type", "application/json")
    if token := os.environ.get("FERMION_TOKEN"):
        request.add_header("Authorization", f"Bearer {token}")
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
        for line in answer:
            data = line.decode().strip().removeprefix("data: ")
            if data == "[DONE]":
                return
            if data.startswith("{"):
                choices = json.loads(data).get("choices")
                yield (choices[0]["delta"].get("content") or "") if choices else ""


if __name__ == "__main__":
    main()
