"""A stand-in for vLLM or SGLang: their routes for a classifier, over plain transformers with the shipped folder.

Requests and responses are those of vllm/entrypoints/pooling/classify (0.33) and of SGLang's
srt/entrypoints/openai/serving_classify.py: one row of token ids, softmax over the head's classes in 32 bits.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification

PATHS = {"vllm": "/classify", "sglang": "/v1/classify"}


@contextmanager
def serving(folder: Path, owner: str, key: str | None = None) -> Iterator[str]:
    """The address of a server of a model folder, in a thread of this process."""
    model = AutoModelForSequenceClassification.from_pretrained(folder, attn_implementation="eager").eval()
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            data = [{"id": "served", "object": "model", "owned_by": owner, "root": str(folder)}]
            self._answer(200, {"object": "list", "data": data})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path != PATHS.get(owner) or body.get("model") != "served":
                self._answer(404, {"detail": "Not Found"})
                return
            ids = body["input"]
            assert ids
            assert all(isinstance(token, int) for token in ids)
            with torch.no_grad(), lock:
                probs = model(torch.tensor([ids])).logits[0].float().softmax(-1).tolist()
            label = model.config.id2label[max(range(3), key=probs.__getitem__)]
            data = [{"index": 0, "label": label, "probs": probs, "num_classes": 3}]
            usage = {"prompt_tokens": len(ids), "total_tokens": len(ids), "completion_tokens": 0}
            self._answer(
                200,
                {"id": "classify-1", "object": "list", "created": 0, "model": "served", "data": data}
                | {"usage": usage},
            )

        def _answer(self, status: int, body: dict[str, Any]) -> None:
            if key and self.headers["Authorization"] != f"Bearer {key}":
                status, body = 401, {"error": "Unauthorized"}
            text = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
