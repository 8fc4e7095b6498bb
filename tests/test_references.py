"""Which files a scene may refer to: regular ones, and from a server only files on servers."""

from __future__ import annotations

import json
import os
from urllib.parse import quote

import numpy as np
import pytest
import rasterio
from conftest import random_values
from ranges import RangeServer

from crossband.cli.main import main
from crossband.errors import InputError
from crossband.raster.members import member_files
from crossband.raster.open import known_bands, open_raster, open_scene
from crossband.raster.opener import Opener
from crossband.raster.options import ReadOptions
from crossband.raster.products import acquisition_time
from crossband.raster.references import check_reference, check_vrt

ALLOWED = ReadOptions(allow_local_references=True)
#: Addresses that only this machine or its network reaches, as parsers of addresses write them.
PRIVATE = (
    "http://127.0.0.1/a.tif",
    "http://127.1/a.tif",
    "http://2130706433/a.tif",
    "http://localhost:80/a.tif",
    "http://169.254.169.254/latest/meta-data",
    "http://10.0.0.1/a.tif",
    "https://192.168.1.1:8443/a.tif",
    "http://[::1]/a.tif",
    "http://[::ffff:127.0.0.1]/a.tif",
    "http://[fe80::1]/a.tif",
)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Return a server of a folder."""
    with RangeServer(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def secret(make_raster):
    """Return a raster of this machine."""
    return make_raster("secret.tif", random_values(1, 8, 8), names=("red",))


def vrt(name, *, relative=0, inside="", attributes="", source="SimpleSource"):
    """Return a VRT of one band over a raster."""
    return f"""<VRTDataset rasterXSize="8" rasterYSize="8">
  <VRTRasterBand dataType="Float32" band="1"{attributes}>
    <Description>red</Description><UnitType>reflectance</UnitType>
    <{source}>
      <SourceFilename relativeToVRT="{relative}">{name}</SourceFilename>
      <SourceBand>1</SourceBand>
      <SourceProperties RasterXSize="8" RasterYSize="8" DataType="Float32" BlockXSize="8"
        BlockYSize="8"/>{inside}
    </{source}>
  </VRTRasterBand>
</VRTDataset>"""


def put(server, name, content):
    """Write a file into the folder of a server; returns its address."""
    path = server.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return f"{server.url}/{name}"


def item(*hrefs):
    """Return a STAC item whose assets are these files; the first is red."""
    assets = {
        f"asset{n}": {
            "href": href,
            "roles": ["data"],
            "eo:bands": [{"common_name": name}],
            "raster:bands": [{"unit": "reflectance"}],
        }
        for n, (href, name) in enumerate(zip(hrefs, ("red", "nir"), strict=False))
    }
    return json.dumps({"type": "Feature", "id": "a", "properties": {}, "assets": assets})


def read(path, options=ReadOptions()):
    with open_scene(path, options, needed=("red",)) as scene:
        return scene.read().values


@pytest.mark.parametrize(
    "name",
    [
        "https://93.184.216.34/a.tif",
        "/vsicurl/https://93.184.216.34/a.tif",
        "/vsizip//vsicurl/https://93.184.216.34/a.zip/b.tif",
        "/vsizip/{/vsicurl/https://93.184.216.34/a.zip}/b.tif",
        "/vsis3/bucket/a.tif",
        "/vsitar//vsigs/bucket/a.tar/b.tif",
        "s3://bucket/a.tif",
        "http://127.0.0.1:8000/b.tif",
    ],
)
def test_what_an_item_may_name(name):
    check_reference(name, "http://127.0.0.1:8000/item.json")


@pytest.mark.parametrize(
    "name",
    [
        *PRIVATE,
        *(f"/vsicurl/{url}" for url in PRIVATE),
        "/etc/passwd",
        "a.tif",
        "file:///a.tif",
        "vrt:///a.tif",
        "vrt:///vsis3/a.tif",
        "/vsisubfile/0,/a.tif",
        "/vsisubfile/0_10,/vsis3/b/a.tif",
        "/vsizip//a.zip/b.tif",
        "/vsizip//vsimem/a.zip/b.tif",
        "/vsimem/a.tif",
        "/vsistdin/",
        "/vsiwebhdfs/http://127.0.0.1:9/webhdfs/v1/a.tif",  # names its server itself
        "/vsizip//vsiwebhdfs/http://169.254.169.254/a.zip",
        "/vsihdfs/file:/a.tif",
        "/vsicurl?url=https://93.184.216.34/a.tif",
        "/vsicurl/file:///a.tif",
        "/vsigzip//a.tif.gz",
        "/vsicached?file=/a.tif",
        "NETCDF:/a.nc:b",
        'HDF5:"/a.h5"://b',
        "GTIFF_DIR:1:/a.tif",
        "<VRTDataset>",
        "<GDAL_WMS>",
        "pack://a",
        "ftp://93.184.216.34/a.tif",
        "http:///a.tif",
        "https://user@127.0.0.1/a.tif",
        "https://93.184.216.34\\@127.0.0.1/a.tif",
        "https://h:port/a.tif",
        "HTTPS://127.0.0.1/a.tif",
        " https://93.184.216.34/a.tif",
        "",
    ],
)
def test_what_an_item_must_not_name(name):
    for origin in ("https://93.184.216.34/item.json", "/vsis3/bucket/a.vrt"):
        with pytest.raises(InputError, match="--allow-local-references"):
            check_reference(name, origin)


@pytest.mark.parametrize("form", ["file://{}", "vrt://{}", "/vsisubfile/0,{}"])
def test_an_item_on_a_server_opens_no_local_file(server, secret, form):
    address = put(server, "item.json", item(form.format(secret)))
    with pytest.raises(InputError, match=r"item.json: it names .*secret.tif.*-local-references"):
        read(address)
    if not form.startswith("file"):
        assert read(address, ALLOWED).shape == (1, 8, 8)
    assert known_bands(address) == ("red",)
    # A path is one on the server.
    with pytest.raises(InputError, match=rf"{server.url}/.*secret.tif: .*404"):
        read(put(server, "item.json", item(str(secret))))


def test_the_assets_that_are_not_needed_name_what_they_want(server, secret):
    put(server, "own.tif", secret.read_bytes())
    address = put(server, "item.json", item("own.tif", "file:///secret.tif"))
    assert read(address).shape == (1, 8, 8)


PLAIN = {
    "a/inner.vrt": vrt("../own.tif", relative=1),
    "beside.vrt": vrt("a/inner.vrt", relative=1),
    "complex.vrt": vrt("own.tif", relative=1, source="ComplexSource", inside="<NODATA>7</NODATA>"),
    "other.dat": vrt("own.tif", relative=1),  # a VRT is told by its content
}


@pytest.mark.parametrize("name", [*PLAIN, "absolute.vrt"])
def test_a_vrt_on_a_server_names_what_is_there(server, secret, name):
    put(server, "own.tif", secret.read_bytes())
    for other, content in PLAIN.items():
        put(server, other, content)
    put(server, "absolute.vrt", vrt(f"/vsicurl/{server.url}/own.tif"))
    np.testing.assert_array_equal(read(f"{server.url}/{name}"), read(secret))


@pytest.mark.parametrize("form", ["{}", "vrt://{}", "/vsisubfile/0,{}", "GTIFF_DIR:1:{}"])
def test_a_vrt_on_a_server_opens_no_local_file(server, secret, tmp_path, form):
    content = vrt(form.format(secret))
    address = put(server, "a.vrt", content)
    with pytest.raises(InputError, match=r"a.vrt: it names .*secret.tif.*-local-references"):
        read(address)
    assert read(address, ALLOWED).shape == (1, 8, 8)
    with pytest.raises(InputError, match=r"a.vrt: it names .*secret.tif.*-local-references"):
        read(put(server, "item.json", item("a.vrt")))
    # The user's own VRT over it: what is between them is what counts.
    (tmp_path / "mine.vrt").write_text(vrt(f"/vsicurl/{address}"))
    with pytest.raises(InputError, match=r"a.vrt: it names .*secret.tif.*-local-references"):
        read(tmp_path / "mine.vrt")
    assert read(tmp_path / "mine.vrt", ALLOWED).shape == (1, 8, 8)
    (tmp_path / "own.vrt").write_text(content)
    assert read(tmp_path / "own.vrt").shape == (1, 8, 8)


@pytest.mark.parametrize("mine", [False, True])
def test_a_vrt_under_another_name_is_noticed(server, secret, tmp_path, mine):
    hidden = put(server, "b.tif", vrt(secret))
    outer = put(server, "a.vrt", vrt("b.tif", relative=1))
    if mine:
        outer = tmp_path / "mine.vrt"
        outer.write_text(vrt(f"/vsicurl/{hidden}"))
    with pytest.raises(InputError, match=r"it made GDAL open .*\((VRT|GTiff)\); --allow-local"):
        read(outer)


def test_services_are_not_opened(server, tmp_path):
    service = '<GDAL_WMS><Service name="TMS"><ServerUrl>http://127.0.0.1:9/</ServerUrl></Service>'
    for path in (put(server, "a.xml", service), put(server, "a.tif", service)):
        with pytest.raises(InputError, match=r"not a raster"):
            open_raster(path)
    (tmp_path / "a.xml").write_text(service)
    with pytest.raises(InputError, match=r"not a raster"):
        open_raster(tmp_path / "a.xml")


ODD = {
    "a comment": vrt("own.tif", relative=1, inside="<!-->"),
    "a section": vrt("<![CDATA[own.tif]]>", relative=1),
    "a declaration": "<!DOCTYPE a>" + vrt("own.tif", relative=1),
    "a name as an attribute": vrt("own.tif", relative=1, attributes=' SourceFilename="/a.tif"'),
    "an attribute twice": vrt("own.tif", relative='0" RELATIVETOVRT="1'),
    "a part in a name": vrt("<Band/>own.tif", relative=1),
    "another kind of band": vrt("own.tif", relative=1, attributes=' subClass="VRTRawRasterBand"'),
    "a kernel": vrt("own.tif", relative=1, source="KernelFilteredSource"),
    "a number in words": vrt("own.tif", relative="true"),
    "a warped one": vrt("own.tif", relative=1, inside="<GDALWarpOptions/>"),
    "options": vrt("own.tif", relative=1, inside="<OpenOptions><OOI key='a'>b</OOI></OpenOptions>"),
    "code": vrt("own.tif", relative=1, inside="<PixelFunctionCode>x</PixelFunctionCode>"),
    "a relative path from here": vrt("own.tif"),
    "an absolute path from there": vrt("/own.tif", relative=1),
    "a driver": vrt("NETCDF:own.nc:a", relative=1),
    "an address as it is": vrt("https://93.184.216.34/a.tif"),
    "overviews elsewhere": vrt(
        "own.tif", relative=1, inside='<Metadata domain="OVERVIEWS"><MDI key="a">b</MDI></Metadata>'
    ),
    "an ampersand": vrt("own.tif&/a", relative=1),
    "an entity": vrt("own&#46;tif", relative=1),
    "a zero byte": vrt("own.tif", relative=1) + "\0",
    "no XML": vrt("own.tif", relative=1)[:-3],
}


@pytest.mark.parametrize("case", ODD)
def test_what_parsers_may_read_differently_is_refused(case):
    check_vrt(vrt("own.tif", relative=1).encode(), "/vsicurl/https://93.184.216.34/a.vrt")
    with pytest.raises(InputError, match=r"a.vrt: "):
        check_vrt(ODD[case].encode(), "/vsicurl/https://93.184.216.34/a.vrt")


def test_redirects_into_this_network_are_not_followed(server, secret):
    put(server, "own.tif", secret.read_bytes())
    put(server, "item.json", item(f"{server.url}/own.tif"))
    there = f"{server.url}/to/{quote(server.url, safe='')}"
    np.testing.assert_array_equal(read(f"{there}/item.json"), read(secret))
    np.testing.assert_array_equal(read(f"{there}/own.tif"), read(secret))
    here = f"{server.url}/to/{quote(server.url.replace('127.0.0.1', 'localhost'), safe='')}"
    for path in ("item.json", "own.tif"):
        with pytest.raises(InputError, match=r"localhost.*--allow-local-references"):
            read(f"{here}/{path}")
        np.testing.assert_array_equal(read(f"{here}/{path}", ALLOWED), read(secret))
    with pytest.raises(InputError, match=r"localhost.*--allow-local-references"):
        acquisition_time(f"{here}/item.json")
    with pytest.raises(InputError, match="made GDAL open"):
        Opener("https://93.184.216.34/a.tif").check_opened("/etc/a.tif", "GTiff")


def test_overviews_lie_beside_their_raster(server, secret, tmp_path):
    with rasterio.open(secret, "r+") as file:
        file.update_tags(ns="OVERVIEWS", OVERVIEW_FILE="/vsicurl/http://127.0.0.1:9/a.tif")
    (tmp_path / "over.vrt").write_text(vrt(secret))
    for path in (secret, tmp_path / "over.vrt", put(server, "a.tif", secret.read_bytes())):
        with pytest.raises(InputError, match=r"tif: it says that its overviews are .*127.0.0.1"):
            open_raster(path)
    open_raster(secret, allow_local=True).close()
    with rasterio.open(secret, "r+") as file:
        file.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=":::BASE:::fifo")
    open_raster(secret).close()
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(InputError, match="fifo: a FIFO"):
        open_raster(secret)


@pytest.fixture
def fifo(tmp_path):
    """Return a FIFO that nobody writes to."""
    path = tmp_path / "fifo.png"
    os.mkfifo(path)
    return path


@pytest.mark.parametrize(
    "form",
    [
        "{}",
        "vrt://{}?bands=1",
        "/vsigzip/{}",
        "/vsizip/{{{}}}/a.tif",
        "/vsisubfile/0_10,{}",
        "/vsicached?file={}",
        "NETCDF:{}:a",
        'HDF5:"{}"://a',
        "GTIFF_DIR:1:{}",
    ],
)
def test_a_scene_is_a_regular_file(fifo, tmp_path, form):
    name = form.format(fifo)
    with pytest.raises(InputError, match=r"fifo.png: a FIFO, and no regular file"):
        open_scene(name, needed=("red",))
    (tmp_path / "a.vrt").write_text(vrt(name.replace('"', "&quot;")))
    (tmp_path / "b.vrt").write_text(vrt("a.vrt", relative=1))
    for path in ("a.vrt", "b.vrt"):
        with pytest.raises(InputError, match=r"fifo.png: a FIFO, and no regular file"):
            open_scene(tmp_path / path, needed=("red",))
    assert str(tmp_path / "b.vrt") in member_files([str(tmp_path / "b.vrt"), name])


@pytest.mark.parametrize("name", ["secret.tif.msk", "secret.tif.aux.xml", "secret.tfw"])
def test_files_beside_a_scene_are_regular(secret, tmp_path, name):
    os.mkfifo(tmp_path / name)
    (tmp_path / "a.vrt").write_text(vrt("secret.tif", relative=1))
    for path in (secret, tmp_path / "a.vrt"):
        with pytest.raises(InputError, match=rf"{name}: a FIFO, and no regular file"):
            open_raster(path)


def test_files_of_products_are_regular(fifo, tmp_path, capsys):
    os.mkfifo(tmp_path / "item.json")
    for path in (tmp_path / "item.json", "/dev/zero", "/dev/stdin"):
        assert main(["translate", str(path), "-o", str(tmp_path / "o.tif")]) == 2
        said = capsys.readouterr().err
        assert "and no regular file" in said
        assert said.count("\n") == 1
    (tmp_path / "fifo.tif").symlink_to(fifo)
    with pytest.raises(InputError, match="a FIFO"):
        open_scene(tmp_path, ReadOptions(bands={"red": "fifo.tif"}), needed=("red",))
    (tmp_path / "S.SAFE").mkdir()
    os.mkfifo(tmp_path / "S.SAFE" / "MTD_MSIL2A.xml")
    with pytest.raises(InputError, match=r"not a raster"):
        open_scene(tmp_path / "S.SAFE", needed=("red",))


def test_vrts_that_name_each_other_end(tmp_path, secret):
    (tmp_path / "a.vrt").write_text(vrt("b.vrt", relative=1))
    (tmp_path / "b.vrt").write_text(vrt("./c/../a.vrt", relative=1))
    with pytest.raises(InputError):
        read(tmp_path / "a.vrt")
    for n in range(1002):
        (tmp_path / f"{n}.vrt").write_text(vrt(f"{n + 1}.vrt", relative=1))
    with pytest.raises(InputError, match=r"more than 1000 VRTs"):
        read(tmp_path / "0.vrt")
    (tmp_path / "a.vrt").write_text(vrt("a&b=1", relative=1))  # GDAL reads it, as `a`
    with pytest.raises(InputError, match=r"No such file"):
        read(tmp_path / "a.vrt")


@pytest.mark.parametrize(("times", "deep", "words"), [(30, 6, "more than 1,000,000 sources"),
                                                       (1, 33, "more than 32 deep")])  # fmt: skip
def test_vrts_that_name_more_and_more_are_refused_before_gdal_opens_them(
    tmp_path, secret, times, deep, words
):
    for n in range(deep):
        inner = f"{n - 1}.vrt" if n else "secret.tif"
        source = vrt(inner, relative=1)
        source = source[source.index("<SimpleSource>") : source.index("</VRTRasterBand>")]
        text = vrt(inner, relative=1).replace(source, source * times)
        (tmp_path / f"{n}.vrt").write_text(text)
    read(tmp_path / "1.vrt")
    with pytest.raises(InputError, match=f"{deep - 1}.vrt: .*{words}"):
        Opener(str(tmp_path / f"{deep - 1}.vrt")).look()
