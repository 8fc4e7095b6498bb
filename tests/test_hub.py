"""The Hub: what is pushed comes back, and each answer is one line. The server is local."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest
import torch
import yaml
from huggingface_hub import constants, file_download, utils

from crossband import load
from crossband.cli.main import main
from crossband.errors import ModelError

METRICS = {"held_out": [{"places": "all", "n": 6, "baseline": "linear", "ratio": 0.58}]}


class _Hub(BaseHTTPRequestHandler):
    """The part of the Hub's API that uploading and downloading a folder uses."""

    files: dict[str, dict[str, bytes]]  # commit -> name -> content
    status = 200

    def log_message(self, *_):
        pass

    def _send(self, body, status=200, **headers):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _refused(self):
        if self.server.status != 200:
            self._send({"error": "no"}, self.server.status)
        return self.server.status != 200

    def do_POST(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if self._refused():
            return
        path = urlsplit(self.path).path
        if path == "/api/repos/create":
            base = f"http://{self.headers['Host']}"
            self.server.created.append(json.loads(body))
            self._send({"url": f"{base}/owner/name", "id": "owner/name", "name": "owner/name"})
        elif path == "/api/validate-yaml":
            self._send({"errors": [], "warnings": []})
        elif path.endswith("/preupload/main"):
            names = [f["path"] for f in json.loads(body)["files"]]
            known = {"uploadMode": "regular", "shouldIgnore": False, "oid": None}
            self._send({"files": [{"path": name, **known} for name in names]})
        elif path.endswith("/commit/main"):
            lines = [json.loads(line) for line in body.splitlines()]
            files = {
                line["value"]["path"]: base64.b64decode(line["value"]["content"])
                for line in lines
                if line["key"] == "file"
            }
            oid = hashlib.sha1(body).hexdigest()
            self.server.commits[oid] = files
            url = f"http://{self.headers['Host']}/owner/name/commit/{oid}"
            self._send({"success": True, "commitOid": oid, "commitUrl": url, "hookOutput": ""})
        else:
            self._send({"error": path}, 404)

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        if self._refused():
            return
        parts = urlsplit(self.path).path.strip("/").split("/")
        commits = self.server.commits
        if parts[:4] == ["api", "models", "owner", "name"]:
            revision = parts[5] if len(parts) > 5 else "main"
            if revision == "main" and not commits:  # older clients ask before they push
                self._send({"id": "owner/name", "sha": "0" * 40, "private": False, "siblings": []})
                return
            oid = list(commits)[-1] if revision == "main" else revision
            if oid not in commits:
                code = {"X-Error-Code": "RevisionNotFound"}
                self._send({"error": "Revision Not Found"}, 404, **code)
                return
            names = list(commits[oid])
            if parts[4:5] == ["tree"]:
                tree = [
                    {
                        "type": "file",
                        "path": name,
                        "size": len(commits[oid][name]),
                        "oid": hashlib.sha1(commits[oid][name]).hexdigest(),
                    }
                    for name in names
                ]
                self._send(tree)
            else:
                about = {"id": "owner/name", "sha": oid, "private": False, "tags": []}
                self._send(about | {"siblings": [{"rfilename": name} for name in names]})
        elif parts[:3] == ["owner", "name", "resolve"] and parts[3] in commits:
            content = commits[parts[3]]["/".join(parts[4:])]
            etag = f'"{hashlib.sha1(content).hexdigest()}"'
            self._send(content, X_Repo_Commit=parts[3], ETag=etag)
        else:
            self._send({"error": self.path}, 404, **{"X-Error-Code": "RepoNotFound"})


@pytest.fixture
def hub(tmp_path, monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    server.commits, server.created, server.status = {}, [], 200
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("HF_ENDPOINT", address)
    # Read when it is imported, before this test: 0.30 takes a commit's address apart by it.
    monkeypatch.setattr(constants, "ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    for module in (constants, file_download):
        monkeypatch.setattr(module, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    use_cache(monkeypatch, tmp_path / "cache")
    forget_sessions()
    yield server
    forget_sessions()
    server.shutdown()
    server.server_close()


def forget_sessions():
    """Before 1.0 a session of huggingface_hub is kept, and knows whether it is offline."""
    getattr(utils, "reset_sessions", list)()


def use_cache(monkeypatch, folder):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))


@pytest.fixture
def folder(tiny_model, tmp_path):
    model = load(tiny_model)
    model.about |= {"licence": "MIT", "metrics": METRICS}
    return model.save(tmp_path / "folder")


def test_what_is_pushed_comes_back(hub, folder, tmp_path, capsys, monkeypatch):
    assert main(["push", str(folder), "owner/name", "--private"]) == 0
    address = capsys.readouterr().out.strip()
    (oid,) = hub.commits
    assert address == f"hf://owner/name@{oid}"
    assert hub.created[0]["name"] == "name"
    card = hub.commits[oid]["README.md"].decode()
    header = yaml.safe_load(card.split("---\n")[1])
    assert (header["license"], header["pipeline_tag"]) == ("mit", "image-to-image")
    (metric,) = header["model-index"][0]["results"][0]["metrics"]
    assert metric["name"] == "mae / mae of the baseline linear, 6 places"
    here = load(folder)
    for name in ("hf://owner/name", address):
        model = load(name)
        assert model.weights_hash == here.weights_hash
        x = torch.rand(3, 20, 21)
        assert torch.equal(model(x), here(x))
    hub.shutdown()
    hub.server_close()
    assert load(address).weights_hash == here.weights_hash  # from the cache
    use_cache(monkeypatch, tmp_path / "empty")
    with pytest.raises(ModelError, match="hf://owner/name: cannot be fetched: ") as error:
        load("hf://owner/name")
    assert "\n" not in str(error.value)


def test_offline_the_cache_is_enough(hub, folder, capsys, monkeypatch, tmp_path):
    assert main(["push", str(folder), "owner/name"]) == 0
    pulled = load("hf://owner/name")
    asked = []
    monkeypatch.setattr(_Hub, "_refused", lambda handler: asked.append(handler.path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)  # what the variable sets at import
    forget_sessions()
    again, here, x = load("hf://owner/name"), load(folder), torch.rand(3, 20, 21)
    assert again.weights_hash == pulled.weights_hash == here.weights_hash
    assert torch.equal(again(x), here(x))
    use_cache(monkeypatch, tmp_path / "empty")
    capsys.readouterr()
    assert main(["models", "hf://owner/name"]) == 2
    line = capsys.readouterr().err
    assert line.startswith("crossband: hf://owner/name: cannot be fetched: ")
    assert line.count("\n") == 1
    assert asked == []


@pytest.mark.parametrize(
    ("status", "words"),
    [(401, "does not know you"), (403, "lacks the right"), (404, "no such"), (429, "wait")],
)
def test_each_answer_is_one_line(status, words, hub, folder, capsys, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: None)
    hub.status = status
    for command in (
        ["push", str(folder), "owner/name"],
        ["models", "hf://owner/name"],
    ):
        assert main(command) == 2
        line = capsys.readouterr().err
        assert words in line
        assert line.count("\n") == 1


def test_a_revision_that_is_not_there(hub, folder):
    assert main(["push", str(folder), "owner/name"]) == 0
    with pytest.raises(ModelError, match="no such model or revision"):
        load("hf://owner/name@none")


def test_weights_that_were_changed_on_the_way(hub, folder):
    assert main(["push", str(folder), "owner/name"]) == 0
    (files,) = hub.commits.values()
    files["model.safetensors"] = files["model.safetensors"][:-1] + b"\x00"
    with pytest.raises(ModelError, match="the weights are not those that"):
        load("hf://owner/name")


@pytest.mark.parametrize("missing", ["licence", "metrics"])
def test_a_folder_without_licence_or_evaluation(missing, hub, folder, tmp_path, capsys):
    copy = shutil.copytree(folder, tmp_path / "copy")
    data = json.loads((copy / "model.json").read_text())
    del data["about"][missing]
    (copy / "model.json").write_text(json.dumps(data))
    assert main(["push", str(copy), "owner/name"]) == 2
    assert "so it is not pushed" in capsys.readouterr().err
    assert not hub.created


def _report(path, model, **more):
    """What `crossband evaluate` writes, as far as it is read here."""
    ratio = {"baseline": "linear", "metric": "mae", "sensor": None, "unit": None}
    ratio |= {"geometric_mean": 0.61, "interval": [0.5, 0.7], "n_groups": 9, "n_won": 8}
    record = {"weights_hash": model.weights_hash, "trained_on": 0, "ratios": [ratio]} | more
    path.mkdir()
    (path / "metrics.json").write_text(json.dumps({"models": [record]}))
    return str(path)


def test_licence_and_report_are_given_with_the_push(hub, tiny_model, tmp_path, capsys):
    report = _report(tmp_path / "report", load(tiny_model))
    folder = load(tiny_model).save(tmp_path / "bare")
    before = (folder / "model.json").read_bytes()
    command = ["push", str(folder), "owner/name", "--licence", "mit", "--report", report]
    assert main(command) == 0
    (files,) = hub.commits.values()
    card = files["README.md"].decode()
    header = yaml.safe_load(card.split("---\n")[1])
    assert header["license"] == "mit"
    assert header["model-index"][0]["results"][0]["metrics"][0]["value"] == 0.61
    assert "| linear | mae | 0.610 (0.500 to 0.700) | 8 of 9 |" in card
    assert (folder / "model.json").read_bytes() == before
    capsys.readouterr()
    again = load("hf://owner/name")
    assert again.about["licence"] == "mit"
    assert again.about["metrics"]["report"][0]["won"] == 8


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"weights_hash": "0" * 64}, "no model with the weights"),
        ({"trained_on": 3}, "was trained on 3 of its pairs"),
        ({"ratios": []}, "with no baseline"),
        ({"ratios": [{"sensor": None}]}, "not a report of crossband evaluate"),
        ({"ratios": 5}, "not a report of crossband evaluate"),
    ],
)
def test_a_report_that_does_not_tell_of_the_model(more, words, hub, folder, tmp_path, capsys):
    report = _report(tmp_path / "report", load(folder), **more)
    assert main(["push", str(folder), "owner/name", "--report", report]) == 2
    line = capsys.readouterr().err
    assert words in line
    assert line.count("\n") == 1
    assert not hub.created


@pytest.mark.parametrize("name", ["name", "a/b/c", "a b/c", "../x", "a/b@"])
def test_a_name_that_no_model_has(name, capsys):
    assert main(["models", f"hf://{name}"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
