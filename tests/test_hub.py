"""Hub ids, from a server on this machine that speaks the hub's protocol."""

import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from conftest import random_llama
from litereason.checkpoints import save

COMMIT = "a" * 40
SCRIPT = """
import sys, torch, litereason
model, tokenizer = litereason.load("org/base")
litereason.attach(model, tokenizer)
torch.nn.init.normal_(model.latent_projector.layers[0].up_proj.weight)
litereason.save(model, sys.argv[1] + "/full", max_shard_size="20KB")
litereason.save(model, sys.argv[1] + "/projector", projector_only=True)
ids = torch.tensor([[1, 8, 37, 4, 4, 9]])
for name in ("org/full", "org/projector"):
    again, _ = litereason.load(name)
    saved, loaded = model.state_dict(), again.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in saved.items()), name
    # to rounding: where in memory weights lie decides how some machines sum
    torch.testing.assert_close(again(ids).logits, model(ids).logits, rtol=1e-4, atol=1e-4)
print(again.latent_config.base["name"], again.latent_config.base["revision"])
"""


@pytest.fixture
def hub(tmp_path):
    """(url, directory): each folder of the directory is the repository `org/FOLDER`."""

    class Hub(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(with_body=True)

        def do_HEAD(self) -> None:
            self.answer(with_body=False)

        def answer(self, with_body: bool) -> None:
            place = self.path.split("?")[0].removeprefix("/api/models").strip("/").split("/")
            folder, kind, name = tmp_path / place[1], place[2], "/".join(place[4:])
            data: bytes | None = None
            if kind == "resolve" and (folder / name).is_file():
                data = (folder / name).read_bytes()
            elif kind in ("tree", "revision"):
                data = json.dumps(listing(folder, kind)).encode()
            self.send_response(404 if data is None else 200)
            if data is None:
                self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hashlib.sha1(data or b"").hexdigest()}"')
            self.send_header("Content-Length", str(len(data or b"")))
            self.end_headers()
            if with_body:
                self.wfile.write(data or b"")

        def log_message(self, *args: object) -> None:
            pass

    def listing(folder: Path, kind: str) -> object:
        names = [path.name for path in folder.iterdir()]
        if kind == "revision":
            return {
                "id": f"org/{folder.name}",
                "sha": COMMIT,
                "siblings": [{"rfilename": n} for n in names],
            }
        return [
            {"type": "file", "path": n, "size": (folder / n).stat().st_size, "oid": "0" * 40}
            for n in names
        ]

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", tmp_path
    server.shutdown()


def test_checkpoints_by_hub_id(hub, words):
    """A base, a sharded full checkpoint, and a projector that finds its base again by id and revision."""
    url, directory = hub
    save(random_llama(words).float(), directory / "base", words)
    settings = {"HF_ENDPOINT": url, "HF_HUB_OFFLINE": "0", "HF_HOME": str(directory / "home")}
    settings |= {"NO_PROXY": "127.0.0.1", "HF_HUB_DISABLE_XET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(directory)],
        capture_output=True,
        text=True,
        env=os.environ | settings,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["org/base", COMMIT]
