"""The page of an evaluation: what is in it, and what it does in a real browser."""

import html.parser
import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import rasterio

from crossband import Model
from crossband.core.signature import Signature, UnitRange
from crossband.evaluation.evaluate import evaluate
from crossband.networks.generators.per_pixel import PerPixelLinear, PerPixelMean

RGB = ["red", "green", "blue"]
SIGNATURE = Signature(RGB, ["nir"], {"reflectance": UnitRange([(0.0, 1.0)] * 3, [(0.0, 1.0)])})
SIZE = 72  # one tile of the power spectrum


def model(name, green, constant):
    import torch

    network = PerPixelLinear()
    network.set_solution(torch.tensor([[0.0], [green], [0.0], [constant]]))
    level = PerPixelMean()
    level.set_solution(torch.tensor([[0.4]]))
    found = Model(network, SIGNATURE, name=name, task="rgb2nir")
    found.baselines = {"mean": Model(level, SIGNATURE, name="mean", task="rgb2nir")}
    return found


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    rows = []
    for n in range(6):
        rng = np.random.default_rng(n)
        stored = rng.integers(600, 3000, (4, SIZE, SIZE + n)).astype("uint16")
        stored[3] = (stored[1] * 1.1 + 1500 + 300 * rng.normal(size=stored[3].shape)).clip(1, 9000)
        stored[:, -4:, -6:] = 0
        with rasterio.open(
            folder / f"p{n}.tif", "w", driver="GTiff", count=4, height=SIZE, width=SIZE + n,
            dtype="uint16", nodata=0, crs="EPSG:32633",
            transform=rasterio.Affine(10, 0, 5e5, 0, -10, 5e6),
        ) as out:  # fmt: skip
            out.write(stored)
            out.descriptions = (*RGB, "nir")
        rows.append(
            {
                "source": f"p{n}.tif",
                "target": f"p{n}.tif",
                "sensor": "reflectance",
                "scale": 1e-4,
                "offset": 0.0,
                "group": f"place {n // 2 if n < 2 else n} <b>&",
                "terrain": "hill" if n % 2 else "plain",
                "date": f"2024-0{n + 1}-15",
            }
        )
    rows += [{**rows[0], "date": "2024-08-01"}, {**rows[0], "date": "2024-09-01"}]
    pd.DataFrame(rows).to_csv(folder / "pairs.csv", index=False)
    models = [model("good", 1.1, 0.15), model("poor", 0.5, 0.2)]
    return evaluate(
        models, folder / "pairs.csv", folder / "out", by=["terrain"], pictures=2, precision="fp32"
    )


@pytest.fixture(scope="module")
def text(report):
    return (report.output / "index.html").read_text()


class Links(html.parser.HTMLParser):
    """Collects whatever a browser would fetch, and ids."""

    def __init__(self):
        super().__init__()
        self.fetched, self.ids, self.anchors = [], [], []

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.fetched += [v for k, v in found.items() if k in ("src", "srcset", "poster", "data")]
        self.fetched += [found["href"]] if tag == "link" else []
        self.anchors += [found["href"]] if tag == "a" else []
        self.ids += [found["id"]] if "id" in found else []


def test_everything_is_inside(text):
    links = Links()
    links.feed(text)
    assert len(links.fetched) > 40
    assert all(v.startswith("data:image/") for v in links.fetched)
    assert "@import" not in text
    assert not re.search(r"url\((?!['\"]?data:)", text)
    assert len(set(links.ids)) == len(links.ids)
    assert {a[1:] for a in links.anchors} <= set(links.ids)


def test_what_it_says_is_what_metrics_json_says(report, text):
    stored = json.loads((report.output / "metrics.json").read_text())
    for found in stored["models"]:
        pixels = found["sensors"][0]["scores"]["model"]["pixels"]
        assert f"MAE {pixels['mae']:.4f} reflectance" in text
        low, high = found["sensors"][0]["scores"]["model"]["intervals"]["pixels"]["mae"]
        assert f"({low:.4f} to {high:.4f})" in text
        images = found["sensors"][0]["scores"]["model"]["images"]
        assert f">{images['rmse']:.4f}" in text
    assert "≥ 60.00" in text  # the spectrum of the constant mean: 60 stands for more
    assert "The models are undecided: " in text
    assert "hill" in text
    assert "place 2 &lt;b&gt;&amp;" in text
    assert "place 2 <b>" not in text
    for section in ("numbers", "baselines", "versus", "pictures", "plots", "breakdowns", "how"):
        assert f'id="{section}"' in text
    assert "through the season" in text
    assert "features" not in re.findall(r'<h2 id="(\w+)"', text)


def test_profiles_hold_what_is_drawn(report):
    stored = json.loads((report.output / "profiles.json").read_text())
    band = stored[0]["sensors"][0]["bands"]["nir"]
    metrics = json.loads((report.output / "metrics.json").read_text())
    n = metrics["models"][0]["sensors"][0]["n_valid"]
    assert np.sum(band["scatter"]) == n
    assert sum(band["error"]["model"]) == sum(band["error"]["mean"]) == n
    assert sum(band["brightness"]["by"]["model"]["n"]) == n
    assert len(band["spectrum"]["frequency"]) == len(band["spectrum"]["power"]["true"])
    assert band["spectrum"]["power"]["mean"][3] < 1e-12 < band["spectrum"]["power"]["model"][3]


# ---- in a browser -----------------------------------------------------------------------------

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)

#: What a person does; it returns what is seen then.
ACTS = """async () => {
  const seen = {};
  const table = document.querySelector("#breakdowns ~ .wide table.sortable");
  const column = () => [...table.tBodies[0].rows].map(r => r.cells[0].textContent.trim());
  const button = table.querySelector("th button");
  button.click(); seen.up = column(); seen.sorted = table.querySelector("th").ariaSort;
  button.click(); seen.down = column();
  const box = document.querySelector(".swipe"), stage = box.querySelector(".stage");
  const [under, over] = ["under", "over"].map(c => box.querySelector("img." + c));
  await Promise.all([under.decode(), over.decode()]);
  seen.stage = [stage.clientWidth, stage.clientHeight, under.naturalWidth, under.naturalHeight];
  seen.labels = [".l", ".r"].map(s => box.querySelector(s).textContent);
  const at = () => getComputedStyle(stage).getPropertyValue("--at").trim();
  seen.before = at();
  const range = box.querySelector("input[type=range]");
  range.value = 25; range.dispatchEvent(new Event("input")); seen.ranged = at();
  seen.clip = getComputedStyle(over).clipPath;
  const r = stage.getBoundingClientRect();
  stage.setPointerCapture = () => {};
  const event = {clientX: r.left + 0.8 * r.width, clientY: r.top + 5, buttons: 1, bubbles: true};
  stage.dispatchEvent(new PointerEvent("pointerdown", event)); seen.dragged = at();
  const right = box.querySelector(".right"), first = over.src;
  right.value = 3; right.dispatchEvent(new Event("change"));
  seen.changed = over.src !== first; seen.right = box.querySelector(".r").textContent;
  const pair = box.querySelector(".pair"), old = under.src;
  pair.value = 1; pair.dispatchEvent(new Event("change"));
  seen.other = under.src !== old; seen.kept = box.querySelector(".r").textContent;
  seen.pairs = pair.options.length;
  seen.page = [document.documentElement.scrollWidth, window.innerWidth];
  document.querySelectorAll("details").forEach(one => one.open = true);
  const cut = w => w.scrollWidth > w.clientWidth;
  seen.cut = [...document.querySelectorAll(".wide")].filter(cut).map(w => w.innerText.slice(0, 80));
  seen.broken = [...document.images].filter(i => i.src && i.complete && !i.naturalWidth).length;
  return seen;
}"""


@pytest.fixture(scope="module", params=[1280, 390])
def seen(request, text, tmp_path_factory):
    """Return what is seen at a width of the window, and what went wrong there."""
    sync_api = pytest.importorskip("playwright.sync_api")
    if BROWSER is None:
        pytest.skip("no chromium on this machine")
    path = tmp_path_factory.mktemp("browser") / "page.html"
    path.write_text(text)
    problems = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=BROWSER, args=["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND"]
        )
        page = browser.new_page(viewport={"width": request.param, "height": 900})
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: problems.append(message.text))
        page.goto(path.as_uri())
        found = page.evaluate(ACTS)
        browser.close()
    return found, problems


def test_it_opens_without_errors(seen):
    found, problems = seen
    assert problems == []
    assert found["broken"] == 0


def test_a_table_sorts(seen):
    found, _ = seen
    assert found["up"] == ["hill", "plain"]
    assert found["sorted"] == "ascending"
    assert found["down"] == ["plain", "hill"]


def test_the_swipe_moves(seen):
    found, _ = seen
    assert found["before"] == "50%"
    assert found["ranged"] == "25%"
    assert "25%" in found["clip"]
    assert float(found["dragged"].rstrip("%")) == pytest.approx(80, abs=1)
    assert found["labels"] == ["\u25c0 target (nir)", "output (nir) \u25b6"]
    assert found["changed"]
    assert found["right"].startswith("absolute error")
    assert found["other"]
    assert found["kept"].startswith("absolute error")
    assert found["pairs"] == 4
    wide, high, width, height = found["stage"]
    assert wide / high == pytest.approx(width / height, rel=0.03)


def test_nothing_hangs_over_the_edge(seen):
    found, _ = seen
    assert found["page"][0] <= found["page"][1]
    assert found["page"][1] < 1000 or found["cut"] == []
