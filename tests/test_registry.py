"""Classes by name: arguments remembered, nothing imported by path, other packages may join."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from crossband.core import registry
from crossband.core.registry import Registered, build, find
from crossband.errors import CrossbandError
from crossband.networks import Generator
from crossband.networks.generators.local_unet import LocalUNet
from crossband.training import recipe, recipe_parser


def test_arguments_are_remembered_with_defaults():
    network = LocalUNet(4, width=6)
    assert network.arguments["in_channels"] == 4
    assert network.arguments["width"] == 6
    assert network.arguments["members"] == 1


@pytest.mark.parametrize(
    "name", ["localunet", "os.system", "crossband.networks.generators.identity.Identity"]
)
def test_only_registered_names(name):
    with pytest.raises(CrossbandError, match="unknown Generator"):
        find(Generator, name)


def test_wrong_arguments_are_one_line():
    with pytest.raises(CrossbandError, match="did you mean 'width'"):
        build(Generator, "LocalUNet", {"widht": 3})
    with pytest.raises(CrossbandError, match="cannot be built"):
        build(Generator, "LocalUNet", {"members": 0})


def test_another_package_joins_through_an_entry_point(monkeypatch):
    class Entry:
        name = "Halver"

        @staticmethod
        def load():
            class Halver(Generator):
                def __init__(self, channels: int = 1) -> None:
                    super().__init__()
                    self.in_channels = self.out_channels = channels

                def forward(self, x):
                    return x / 2

            return Halver

    groups = []
    monkeypatch.setattr(registry, "entry_points", lambda group: groups.append(group) or [Entry])
    monkeypatch.setattr(Generator, "known", dict(Generator.known))
    network = build(Generator, "Halver", {"channels": 2})
    assert groups[0] == "crossband.generator"
    assert network(torch.ones(1, 2, 1, 1)).mean() == 0.5


def test_two_classes_of_one_name_are_refused():
    class Family(Registered, family="Family"):
        pass

    class One(Family):
        pass

    with pytest.raises(TypeError, match="two Family classes"):
        type("One", (Family,), {"__module__": "elsewhere"})
    assert Family.known == {"One": One}


def test_the_page_for_contributors_has_every_family():
    root = Path(__file__).parents[1]
    sources = "\n".join(p.read_text() for p in (root / "src").rglob("*.py"))
    families = re.findall(r"^class (\w+)\([^)]*?family=\"(\w+)\"", sources, re.MULTILINE)
    assert len(families) >= 12
    page = (root / "CONTRIBUTING.md").read_text()
    for base, family in families:
        assert f"`{base}`" in page
        assert f"`crossband.{family.lower()}`" in page


def test_a_package_that_cannot_be_imported_is_one_line(monkeypatch):
    class Entry:
        name, value = "Broken", "broken.module:Broken"

        @staticmethod
        def load():
            raise ImportError("no module named broken")

    monkeypatch.setattr(registry, "entry_points", lambda group: [Entry])
    with pytest.raises(CrossbandError, match=r"'Broken' of another package \(broken.module:Broken"):
        find(Generator, "Broken")


def test_the_configuration_of_an_older_run_is_a_recipe(tmp_path):
    """It has import paths, and modules have moved since."""
    name = "rgb2thermal/cyclegan"
    new = recipe_parser.dump(recipe_parser.parse(recipe.load(name, ["--data.manifest=pairs.csv"])))
    old = re.sub(r"crossband\.training\.", "crossband.", new)
    old = re.sub(r"crossband\.networks\.(generators|discriminators)\.", "crossband.networks.", old)
    assert "class_path: crossband.methods.cycle_gan.CycleGAN" in old
    path = tmp_path / "config.yaml"
    path.write_text(old)
    assert recipe_parser.dump(recipe_parser.parse(recipe.load(path))) == new
