"""What the server refuses: paths, links, hosts, other sites, large and hostile uploads."""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import socket
import struct
import threading
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.request import ProxyHandler, Request, build_opener

import numpy as np
import pytest
import rasterio

pytest.importorskip("starlette")

from starlette.testclient import TestClient

from crossband.cli.main import main
from crossband.errors import CrossbandError, InputError
from crossband.raster.dataset import open_dataset
from crossband.raster.grid import Grid, Window
from crossband.web import addresses, scenes
from crossband.web.addresses import check_address, filtered_requests, public_addresses
from crossband.web.app import create_app
from crossband.web.scenes import BusyError
from crossband.web.server import Server
from crossband.web.settings import ServeOptions, Settings

OWN = {"x-crossband": "1"}


@pytest.fixture
def root(tmp_path, make_raster):
    """Return a folder that is offered; beside it lies a file that is not."""
    make_raster("secret.tif")
    folder = tmp_path / "root"
    (folder / "inner").mkdir(parents=True)
    make_raster("root/inner/scene.tif")
    return folder


@pytest.fixture
def client(tmp_path, root, tiny_model):
    """Return a function: settings -> client."""
    opened = []

    def start(base="http://127.0.0.1:8000", prefix="", **changes):
        folder = tmp_path / "served"
        known = {"folder": folder, "root": root.resolve(), "models": (str(tiny_model),)}
        folder.mkdir(exist_ok=True)
        made = TestClient(create_app(Settings(**(known | changes)), prefix), base_url=base)
        opened.append(made.__enter__())
        return opened[-1]

    yield start
    for one in opened:
        one.__exit__(None, None, None)


def scene(client, name, model, **more):
    return client.get("/api/scene", params={"scene": name, "model": model.name, **more})


def upload(client, content, name="scene.tif"):
    return client.post("/api/uploads", params={"name": name}, content=content, headers=OWN)


@pytest.mark.parametrize(
    "path",
    [
        "../secret.tif",
        "inner/../../secret.tif",
        "..%2fsecret.tif",
        "%2e%2e/secret.tif",
        "..\\secret.tif",
        "/etc/passwd",
        "//etc/passwd",
        "/vsizip/x.zip/a.tif",
        "vsicurl/http://127.0.0.1/a.tif",
        "/vsimem/a.tif",
        "file:///etc/passwd",
        "file://inner/scene.tif",
        "NETCDF:inner/scene.tif:a",
        "vrt://inner/scene.tif",
        "inner/scene.tif\x00.png",
        ".hidden/scene.tif",
        "inner/notes.txt",
        "inner",
        "absent.tif",
        "a" * 5000,
    ],
)
def test_only_rasters_below_the_root_are_opened(client, root, tiny_model, path):
    (root / "inner" / "notes.txt").write_text("x")
    (root / ".hidden").mkdir()
    (root / ".hidden" / "scene.tif").write_bytes((root / "inner/scene.tif").read_bytes())
    answer = scene(client(), f"root:{path}", tiny_model)
    assert answer.status_code == 400
    assert "is not offered" in answer.json()["error"]
    assert str(root) not in answer.text


def test_a_link_out_of_the_root_is_refused_and_not_listed(client, root, tmp_path, tiny_model):
    (root / "link.tif").symlink_to(tmp_path / "secret.tif")
    (root / "outside").symlink_to(tmp_path)
    (root / "own.tif").symlink_to(root / "inner" / "scene.tif")
    page = client()
    for name in ("link.tif", "outside/secret.tif"):
        assert scene(page, f"root:{name}", tiny_model).status_code == 400
    assert scene(page, "root:own.tif", tiny_model).json()["problem"] == ""
    listed = page.get("/api/files").json()
    assert [f["name"] for f in listed["files"]] == ["own.tif"]
    assert [f["name"] for f in listed["folders"]] == ["inner"]
    for folder in ("outside", "..", "/", "inner/.."):
        assert page.get("/api/files", params={"folder": folder}).status_code == 400


@pytest.mark.parametrize("named", ["../secret.tif", "/vsicurl/http://127.0.0.1:1/a.tif"])
def test_a_vrt_below_the_root_may_name_only_files_below_it(client, root, tiny_model, named):
    text = (
        '<VRTDataset rasterXSize="50" rasterYSize="40"><VRTRasterBand dataType="Float32" band="1">'
        f'<SimpleSource><SourceFilename relativeToVRT="1">{named}</SourceFilename>'
        "<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"
    )
    if named.startswith("/"):
        text = text.replace('relativeToVRT="1"', 'relativeToVRT="0"')
    (root / "a.vrt").write_text(text)
    page = client()
    answer = scene(page, "root:a.vrt", tiny_model)
    assert answer.status_code == 400
    assert "not below the folder that is offered" in answer.json()["error"]


def test_without_a_root_nothing_of_the_disk_is_offered(client, tiny_model):
    page = client(root=None)
    assert "without --root" in scene(page, "root:inner/scene.tif", tiny_model).json()["error"]
    assert page.get("/api/files").status_code == 400


@pytest.mark.parametrize(
    "name", ["inner/scene.tif", "upload:../../x", "upload:" + "0" * 32, "file:/etc/passwd", ""]
)
def test_a_scene_has_one_of_three_names(client, tiny_model, name):
    assert scene(client(), name, tiny_model).status_code == 400


def test_an_upload_is_refused_while_it_comes(client, tmp_path):
    page = client(max_upload=100_000)
    sent = []

    def parts():
        for _ in range(100):
            sent.append(1)
            yield bytes(10_000)

    answer = upload(page, parts())
    assert answer.status_code == 413
    assert upload(page, bytes(100_001)).status_code == 413
    assert not list((tmp_path / "served" / "uploads").iterdir())


def test_uploads_together_have_a_limit(client, root, tmp_path):
    content = (root / "inner/scene.tif").read_bytes()
    page = client(max_stored=len(content) + 10)
    assert upload(page, content).status_code == 201
    answer = upload(page, content)
    assert answer.status_code == 400
    assert "keeps no further uploads" in answer.json()["error"]
    (tmp_path / "served" / "uploads" / "junk").mkdir()
    assert upload(client(max_stored=len(content)), content).status_code == 400


def test_uploads_that_come_at_once_share_the_limit(root, tmp_path):
    places = Server(Settings(tmp_path / "served", root, max_stored=1000)).places
    one, two = places.new_upload("a.tif"), places.new_upload("b.tif")
    assert one.write(bytes(600))
    assert two.write(bytes(400))
    for full in (one, two):
        with pytest.raises(CrossbandError, match="keeps no further uploads"):
            full.write(bytes(1))
    two.discard()
    assert one.write(bytes(400))
    one.discard()
    last = places.new_upload("c.tif")
    assert last.write(bytes(1000))
    last.discard()


VRT = (
    '<VRTDataset rasterXSize="50" rasterYSize="40"><VRTRasterBand dataType="Float32" band="1">'
    '<SimpleSource><SourceFilename relativeToVRT="0">{path}</SourceFilename>'
    "<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"
)
DERIVED = (
    '<VRTDataset rasterXSize="5" rasterYSize="5"><VRTRasterBand dataType="Float32" band="1" '
    'subClass="VRTDerivedRasterBand"><PixelFunctionLanguage>Python</PixelFunctionLanguage>'
    "<PixelFunctionType>f</PixelFunctionType></VRTRasterBand></VRTDataset>"
)
WMS = (
    '<GDAL_WMS><Service name="TMS"><ServerUrl>http://127.0.0.1:9/${z}</ServerUrl></Service>'
    "</GDAL_WMS>"
)


@pytest.mark.parametrize("name", ["scene.vrt", "scene.tif", "scene.png"])
@pytest.mark.parametrize("content", [VRT, DERIVED, WMS, "", "x" * 5000])
def test_an_upload_names_no_other_file(client, tmp_path, name, content):
    page = client()
    answer = upload(page, content.replace("{path}", str(tmp_path / "secret.tif")).encode(), name)
    assert answer.status_code == 400
    assert str(tmp_path) not in answer.text
    assert not list((tmp_path / "served" / "uploads").iterdir())


def test_a_tiff_that_looks_like_a_vrt_is_read_as_a_tiff(client, tmp_path, tiny_model):
    text = VRT.format(path=tmp_path / "secret.tif")
    path = tmp_path / "polyglot.tif"
    profile = {"width": 40, "height": 30, "count": 3, "dtype": "float32"}
    with rasterio.open(path, "w", driver="GTiff", **profile) as out:
        out.update_tags(TIFFTAG_IMAGEDESCRIPTION=text)
        out.write(np.full((3, 30, 40), 0.25, np.float32))
    assert b"<VRTDataset" in path.read_bytes()[:1024]
    page = client()
    answer = upload(page, path.read_bytes())
    assert answer.status_code == 201
    given = {"sensor": "reflectance", "bands": "red=1,green=2,blue=3"}
    about = scene(page, answer.json()["scene"], tiny_model, **given).json()
    assert about["problem"] == ""
    assert (about["width"], about["height"]) == (40, 30)  # those of the VRT are 50 x 40


def test_a_picture_of_too_many_pixels_is_refused_by_its_header(client):
    def chunk(kind, content):
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    bomb += chunk(b"IDAT", zlib.compress(bytes(100_000))) + chunk(b"IEND", b"")
    answer = upload(client(), bomb, "bomb.png")
    assert answer.status_code == 400
    assert "60000 x 60000 pixels, and at most 100,000,000" in answer.json()["error"]


def test_a_sparse_tiff_of_too_many_pixels_is_refused(client, tmp_path):
    path = tmp_path / "bomb.tif"
    profile = {"width": 200_000, "height": 200_000, "count": 3, "dtype": "uint8", "tiled": True}
    with rasterio.open(path, "w", driver="GTiff", SPARSE_OK=True, BIGTIFF="YES", **profile):
        pass
    page = client()
    with open(path, "rb") as file:
        head = file.read(1_000_000)
    answer = upload(page, head)
    assert answer.status_code == 400
    assert "at most 1,000,000,000" in answer.json()["error"] or "not a raster" in answer.text


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 421),
        ({"host": "127.0.0.1.evil.example"}, 421),
        ({"host": "evil@127.0.0.1"}, 421),
        ({"host": "[::1]:8000"}, 200),
        ({"host": "localhost"}, 200),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://["}, 403),
        ({"origin": "http://127.0.0.1:8000"}, 200),
        ({"origin": "http://127.0.0.1:9"}, 403),
    ],
)
def test_other_names_and_other_sites_are_refused(client, headers, status):
    assert client().get("/api/offer", headers=headers).status_code == status


def test_a_link_from_another_site_opens_the_page_and_no_more(client):
    page = client()
    of = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert page.get("/", headers=of | {"sec-fetch-dest": "document"}).status_code == 200
    assert page.get("/", headers=of | {"sec-fetch-dest": "iframe"}).status_code == 403
    assert page.get("/api/offer", headers=of | {"sec-fetch-dest": "document"}).status_code == 403


@pytest.mark.parametrize("path", ["/api/uploads", "/api/jobs", "/api/jobs/x/cancel"])
def test_what_changes_something_needs_the_header_of_the_page(client, path):
    page = client()
    assert page.post(path, content=b"{}").status_code == 403
    assert page.post(path, content=b"{}", headers=OWN).status_code != 403


def test_a_token_is_needed_and_kept_in_a_cookie(client):
    page = client(token="correct-horse", hosts=())
    assert page.get("/api/offer").status_code == 401
    assert page.get("/static/main.js").status_code == 401
    assert page.get("/api/offer", headers={"authorization": "Bearer wrong"}).status_code == 401
    with_token = {"authorization": "Bearer correct-horse"}
    assert page.get("/api/offer", headers=with_token).status_code == 200
    assert "Token" in page.get("/").text
    assert "not the token" in page.get("/?token=wrong").text
    answer = page.get("/?token=correct-horse", follow_redirects=False)
    said = answer.headers["set-cookie"]
    assert answer.status_code == 303
    assert "HttpOnly" in said
    assert "SameSite=strict" in said
    assert "correct-horse" not in said
    assert page.get("/api/offer").status_code == 200


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"host": "0.0.0.0"}, "give a --token"),
        ({"host": "::"}, "give a --token"),
        ({"token": "short"}, "8 to 200"),
        ({"root": "/absent"}, "no such folder"),
        ({"max_upload": "much"}, "no size"),
        ({"max_pixels": 0}, "at least 1"),
        ({"keep": 0.0}, "more than 0"),
        ({"port": 70000}, "between"),
        ({"prefix": "x"}, "a path as"),
        ({"allow_host": ("http://example.org",)}, "a name as example.org"),
        ({"allow_host": ("example.org:80",)}, "a name as example.org"),
    ],
)
def test_wrong_options_are_one_line(tmp_path, options, words):
    with pytest.raises(CrossbandError, match=words):
        Settings.of(ServeOptions(folder=str(tmp_path), **options), (), Settings.tile)


def test_a_tile_without_pixels_is_refused_at_the_start(capsys, tmp_path):
    assert main(["serve", "--port", "0", "--tile", "0", "--folder", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "crossband: --tile 0: must be at least 1\n"


def test_the_command_refuses_an_open_address_without_a_token(capsys, tmp_path):
    assert main(["serve", "--host", "0.0.0.0", "--folder", str(tmp_path)]) == 2
    assert "give a --token" in capsys.readouterr().err


@pytest.mark.parametrize("what", ["absent", "broken", "of another class"])
def test_a_model_that_cannot_be_loaded_ends_the_command(capsys, tmp_path, tiny_model, what):
    folder = tmp_path / "model"
    if what != "absent":
        shutil.copytree(tiny_model, folder)
        about = json.loads((folder / "model.json").read_text())
        about["network"]["class"] = "os.system"
        text = json.dumps(about) if what == "of another class" else "{"
        (folder / "model.json").write_text(text)
    served = ["serve", "--port", "0", "--folder", str(tmp_path / "served")]
    assert main([*served, "--model", str(tiny_model), "--model", str(folder)]) == 2
    said = capsys.readouterr().err
    assert str(folder) in said
    assert said.count("\n") == 1


def test_the_token_may_come_from_the_environment(monkeypatch, tmp_path, capsys):
    def token(**options):
        return Settings.of(ServeOptions(folder=str(tmp_path), **options), (), Settings.tile).token

    assert token() is None
    monkeypatch.setenv("CROSSBAND_TOKEN", "correct-horse")
    assert token(host="0.0.0.0") == "correct-horse"
    assert token(token="battery-staple") == "battery-staple"
    monkeypatch.setenv("CROSSBAND_TOKEN", "short")
    assert main(["serve", "--host", "0.0.0.0", "--folder", str(tmp_path)]) == 2
    assert "CROSSBAND_TOKEN: 8 to 200" in capsys.readouterr().err
    monkeypatch.setenv("CROSSBAND_TOKEN", "")
    with pytest.raises(CrossbandError, match="give a --token"):
        token(host="0.0.0.0")


def test_every_answer_has_a_policy_without_inline_script(client):
    page = client()
    for path in ("/", "/api/offer", "/absent", "/static/style.css"):
        headers = page.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
    text = page.get("/").text
    assert "<script>" not in text
    assert "style=" not in text
    assert "onclick" not in text


def test_names_are_text(client, make_raster, root, tiny_model):
    name = "<script>alert(1)<"
    make_raster(f"root/{name}.tif", names=("<script>x</script>", '"><img src=x>', "blue"))
    page = client()
    listed = page.get("/api/files")
    assert listed.headers["content-type"] == "application/json"
    about = scene(page, f"root:{name}.tif", tiny_model)
    assert about.headers["content-type"] == "application/json"
    assert about.json()["bands"][0]["label"] == "<script>x</script>"
    assert "cannot tell which band is red" in about.json()["problem"]


def test_static_files_stay_in_their_folder(client):
    page = client()
    for path in ("../app.py", "..%2fapp.py", "%2e%2e/app.py", "/etc/passwd"):
        assert page.get(f"/static/{path}").status_code == 404


# ----------------------------------------------------------------------------------------- servers


@pytest.mark.parametrize(
    "address",
    [
        *("http://127.0.0.1/a.tif", "http://localhost/a.tif", "http://[::1]/a.tif"),
        *("http://10.0.0.1/a.tif", "http://192.168.1.1/a.tif", "http://172.16.0.1/a.tif"),
        *("http://169.254.169.254/latest/meta-data", "http://[fe80::1]/a.tif", "http://0/a.tif"),
        *("http://[::ffff:127.0.0.1]/a.tif", "http://[64:ff9b::7f00:1]/a", "http://[fc00::1]/a"),
        *("http://2130706433/a.tif", "http://0x7f.1/a.tif", "http://100.64.0.1/a.tif"),
        *("ftp://example.org/a.tif", "file:///etc/passwd", "/vsicurl/http://1.1.1.1/a.tif"),
        *("s3://bucket/a.tif", "http://user@1.1.1.1/a.tif", "http://1.1.1.1", "http:///a.tif"),
        *("https://1.1.1.1/a b.tif", "gopher://1.1.1.1/a.tif", "http://1.1.1.1:99999/a.tif"),
    ],
)
def test_only_public_servers_are_asked(address):
    with pytest.raises(InputError):
        check_address(address)


def test_public_addresses_pass():
    check_address("https://1.1.1.1/a.tif")
    check_address("http://[2606:4700:4700::1111]:8080/a.tif?x=1")
    check_address("http://127.0.0.1:80/a.tif", [ipaddress.ip_network("127.0.0.0/8")])


def test_one_private_address_of_a_name_refuses_it(monkeypatch):
    def both(*_, **__):
        return [(2, 1, 6, "", (a, 80)) for a in ("1.1.1.1", "10.0.0.1")]

    monkeypatch.setattr(socket, "getaddrinfo", both)
    with pytest.raises(InputError, match="not on a public server"):
        public_addresses("example.org", 80)


class Redirecting(BaseHTTPRequestHandler):
    """Serves a file, or redirects to the address that its path names."""

    asked: ClassVar[list[str]] = []
    content: ClassVar[bytes] = b""

    def do_GET(self):
        type(self).asked.append(self.path)
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/"))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start, end, status = 0, len(self.content) - 1, 200
        if span := self.headers.get("Range"):
            first, last = span.removeprefix("bytes=").split("-")
            start, end, status = int(first), min(int(last), end), 206
        part = self.content[start : end + 1]
        self.send_response(status)
        self.send_header("Content-Length", str(len(part)))
        self.send_header("Accept-Ranges", "bytes")
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{end}/{len(self.content)}")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(part)

    do_HEAD = do_GET

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def server():
    """Return a class of handlers that is served on this machine, and its port."""

    class Own(Redirecting):
        asked: ClassVar[list[str]] = []

    with ThreadingHTTPServer(("127.0.0.1", 0), Own) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield Own, running.server_address[1]
        running.shutdown()


LOCAL = (ipaddress.ip_network("127.0.0.0/30"),)


def through(proxy, url):
    opener = build_opener(ProxyHandler({"http": f"http://{proxy.address}"}))
    try:
        with opener.open(Request(url), timeout=10) as answer:
            return answer.status, answer.read()
    except OSError as error:
        return getattr(error, "code", None), b""


def test_the_proxy_refuses_private_servers_and_passes_permitted_ones(server):
    handler, port = server
    handler.content = b"pixels"
    with filtered_requests() as proxy:
        assert through(proxy, f"http://127.0.0.1:{port}/a")[0] == 403
    assert not handler.asked
    with filtered_requests(LOCAL) as proxy:
        assert through(proxy, f"http://127.0.0.1:{port}/a") == (200, b"pixels")
        # The second address of the loopback net is not among the permitted ones.
        assert through(proxy, f"http://127.0.0.9:{port}/a")[0] == 403
    assert "GDAL_HTTP_PROXY" not in os.environ


def test_a_tunnel_leads_to_permitted_servers_only(server):
    handler, port = server
    handler.content = b"pixels"
    request = f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\n".encode()
    for networks, status in (((), b"403"), (LOCAL, b"200")):
        with (
            filtered_requests(networks) as proxy,
            socket.create_connection(proxy.server_address, timeout=10) as tunnel,
        ):
            tunnel.sendall(request)
            assert tunnel.recv(1000).split()[1] == status
            if networks:
                tunnel.sendall(b"GET /a HTTP/1.0\r\n\r\n")
                assert tunnel.recv(1000).startswith(b"HTTP/1.0 200")


def test_gdal_asks_by_https_through_the_proxy_too(monkeypatch):
    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", "0")
    monkeypatch.setenv("no_proxy", "*")
    asked = []

    def refuse(host, port, networks):
        asked.append((host, port))
        raise InputError("refused")

    monkeypatch.setattr(addresses, "public_addresses", refuse)
    with filtered_requests(), pytest.raises(InputError):
        open_dataset("https://rasters.example/a.tif", self_contained=True)
    assert set(asked) == {("rasters.example", 443)}


def test_a_name_that_means_another_address_later_reaches_nobody(server, monkeypatch):
    handler, port = server
    answers = iter(["1.1.1.1"])
    real = socket.getaddrinfo

    def changing(host, *args, **options):
        if host != "rebind.example":
            return real(host, *args, **options)
        return [(2, 1, 6, "", (next(answers, "127.0.0.1"), port))]

    monkeypatch.setattr(addresses.socket, "getaddrinfo", changing)
    check_address(f"http://rebind.example:{port}/a.tif")  # public when the visitor names it
    with filtered_requests() as proxy:
        assert through(proxy, f"http://rebind.example:{port}/a.tif")[0] == 403
    assert not handler.asked


def test_a_raster_on_a_server_needs_the_option_and_a_public_address(client, tiny_model, server):
    handler, port = server
    name = f"remote:http://127.0.0.1:{port}/scene.tif"
    assert "--allow-remote" in scene(client(), name, tiny_model).json()["error"]
    answer = scene(client(allow_remote=True), name, tiny_model)
    assert "not on a public server" in answer.json()["error"]
    assert not handler.asked


def test_a_cog_on_a_permitted_server_opens(client, tiny_model, server, root):
    handler, port = server
    handler.content = (root / "inner/scene.tif").read_bytes()
    page = client(allow_remote=True, networks=LOCAL)
    about = scene(page, f"remote:http://127.0.0.1:{port}/scene.tif", tiny_model).json()
    assert about["problem"] == ""
    assert (about["width"], about["height"]) == (50, 40)


def test_a_job_of_a_remote_raster_has_the_limits_of_a_look_at_it(client, server, root):
    handler, port = server
    handler.content = (root / "inner/scene.tif").read_bytes()
    page = client(allow_remote=True, networks=LOCAL, max_pixels=10)
    name = f"remote:http://127.0.0.1:{port}/scene.tif"
    for choice in ({"scene": name}, {"scene": "root:inner/scene.tif", "guide": name}):
        answer = page.post("/api/jobs", json={"model": "tiny", **choice}, headers=OWN)
        assert answer.status_code == 400
        assert "at most 10 are opened" in answer.json()["error"]


@pytest.mark.parametrize("guide", ["root:../secret.tif", "root:/etc/passwd", "file:///x.tif", "x"])
def test_a_guide_is_found_as_a_scene_is(client, tiny_model, guide):
    page = client()
    about = scene(page, "root:inner/scene.tif", tiny_model, guide=guide).json()
    assert about["problem"] == ""
    assert "is not offered" in about["guide_problem"] or "is named by" in about["guide_problem"]
    order = {"scene": "root:inner/scene.tif", "model": "tiny", "guide": guide}
    assert page.post("/api/jobs", json=order, headers=OWN).status_code == 400


def test_few_scenes_are_read_from_afar_at_once(monkeypatch):
    """Else a visitor who names one scene with many scales fills the memory."""
    monkeypatch.setattr(scenes, "_READING", threading.Semaphore(1))
    reached, go = threading.Event(), threading.Event()

    class Slow:
        grid, bands, unit = Grid(3000, 3000), ("red",), "reflectance"

        def read_thinned(self, box, factor):
            reached.set()
            go.wait(30)
            values = np.ones((1, -(-box.height // factor), -(-box.width // factor)), np.float32)
            return Window(values, values[0] > 0, self.grid, self.bands, self.unit)

    first, second = (scenes.Coarse(Slow(), threading.Lock()) for _ in range(2))
    whole = Slow.grid.box
    with pytest.raises(BusyError, match="is being read"):
        first.read(whole, first.factor)
    assert reached.wait(30)
    with pytest.raises(BusyError, match="many scenes"):
        second.read(whole, second.factor)
    go.set()
    first.wait()
    second.wait()
    assert second.read(whole, second.factor).mask.all()


def test_a_redirect_to_a_private_server_is_not_followed(client, tiny_model, server, monkeypatch):
    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", "0")
    handler, port = server
    page = client(allow_remote=True, networks=LOCAL)
    wanted = f"http://127.0.0.9:{port}/inner.tif"
    answer = scene(page, f"remote:http://127.0.0.1:{port}/to/{wanted}", tiny_model)
    assert answer.status_code == 400
    assert "/inner.tif" not in handler.asked
    assert any(path.startswith("/to/") for path in handler.asked)
