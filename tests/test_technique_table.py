"""Each technique of the reading list: a recipe that has it as an option, and a source beside it.

`test_recipes.py` fits every recipe, so a technique that stands here is run in the tests.
"""

from __future__ import annotations

import inspect
import sys

import pytest
import tiny
import yaml
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from crossband.networks.discriminators import patch_critic
from crossband.networks.generators import style
from crossband.networks.generators.progressive import GrowingNetwork
from crossband.networks.layers import attention, batch_layers, equalised
from crossband.networks.layers import convolution as layers
from crossband.training import recipe, recipe_parser
from crossband.training.losses import adversarial
from crossband.training.methods import modules, paired_gan

G, D = "method.generator", "method.discriminator"
OBJECTIVE = adversarial.gan_loss


def has(part, kind):
    """Return a check that the generator or the discriminator, as built, has such a layer."""
    return lambda method: any(isinstance(m, kind) for m in getattr(method, part).modules())


def spectral(part):
    return lambda method: any(
        is_parametrized(m) for m in getattr(method, part).modules() if isinstance(m, nn.Conv2d)
    )


def plays(name):
    return lambda method: method.gan_loss is adversarial.GAN_LOSSES[name]


def of(name, value):
    return lambda method: getattr(method, name) == value


#: technique -> recipe, option, its value, object whose docstring names the source, the source, and
#: what shows that the method built from the recipe has it.
TABLE = {
    "non-saturating": ("sar2optical/pix2pix", "method.adversarial", "bce", OBJECTIVE,
        "Goodfellow et al. 2014", plays("bce")),
    "least squares": ("rgb2nir/nir-gan", "method.adversarial", "lsgan", OBJECTIVE,
        "Mao et al. 2017", plays("lsgan")),
    "hinge": ("rgb2thermal/attention", "method.adversarial", "hinge", OBJECTIVE,
        "Lim and Ye 2017", plays("hinge")),
    "relativistic": ("rgb2thermal/style", "method.adversarial", "relativistic", OBJECTIVE,
        "Jolicoeur-Martineau 2018", plays("relativistic")),
    "Wasserstein, clipped weights": ("rgb2thermal/dualgan", "method.weight_clip", 0.01,
        modules.clip_weights, "Arjovsky, Chintala and Bottou 2017", plays("wasserstein")),
    "Wasserstein, gradient penalty": ("rgb2nir/wgan-gp", "method.penalty", 6.0,
        adversarial.gradient_penalty, "Gulrajani et al. 2017", plays("wasserstein")),
    "mismatched pairs": ("rgb2thermal/improved", "method.mismatched", True, paired_gan.PairedGAN,
        "Reed et al. 2016", of("mismatched", True)),
    "DCGAN initialisation": ("rgb2thermal/improved", f"{D}.initial", "dcgan", layers.initialise,
        "Radford et al. 2016", lambda m: 0.015 < m.discriminator.layers[0].weight.std() < 0.025),
    "feature matching": ("sar2optical/pix2pixhd", "method.feature_matching", 10.0,
        adversarial.feature_matching, "Wang et al. 2018", of("feature_matching", 10.0)),
    "one-sided label smoothing": ("rgb2thermal/improved", "method.smoothing", 0.1, OBJECTIVE,
        "Salimans et al. 2016", lambda m: m.gan_loss.discriminator.keywords == {"label": 0.9}),
    "minibatch discrimination": ("rgb2thermal/improved", f"{D}.minibatch", "discrimination",
        batch_layers.MinibatchDiscrimination, "Salimans et al. 2016",
        has("discriminator", batch_layers.MinibatchDiscrimination)),
    "virtual batch normalisation": ("rgb2thermal/improved", f"{D}.norm", "virtual",
        batch_layers.VirtualBatchNorm2d, "Salimans et al. 2016",
        has("discriminator", batch_layers.VirtualBatchNorm2d)),
    "minibatch standard deviation": ("rgb2thermal/progressive", D, "ProgressiveCritic",
        batch_layers.MinibatchStd, "Karras et al. 2018",
        has("discriminator", batch_layers.MinibatchStd)),
    "spectral norm of a discriminator": ("rgb2thermal/attention", f"{D}.spectral", True,
        patch_critic.PatchCritic, "Miyato et al. 2018", spectral("discriminator")),
    "spectral norm of a generator": ("rgb2thermal/attention", f"{G}.spectral", True,
        patch_critic.PatchCritic, "Miyato et al. 2018", spectral("generator")),
    "self-attention of a discriminator": ("rgb2thermal/attention", f"{D}.attention", 2,
        attention.SelfAttention, "Zhang et al. 2019",
        has("discriminator", attention.SelfAttention)),
    "self-attention of a generator": ("rgb2thermal/attention", f"{G}.attention", True,
        attention.SelfAttention, "Zhang et al. 2019", has("generator", attention.SelfAttention)),
    "progressive growing": ("rgb2thermal/progressive", f"{G}.grown", 12000, GrowingNetwork,
        "Karras et al. 2018", has("generator", GrowingNetwork)),
    "progressive growing of the critic": ("rgb2thermal/progressive", f"{D}.grown", 12000,
        GrowingNetwork,
        "Karras et al. 2018", has("discriminator", GrowingNetwork)),
    "pixel norm": ("rgb2thermal/progressive", G, "ProgressiveUNet", equalised.PixelNorm,
        "Karras et al. 2018", has("generator", equalised.PixelNorm)),
    "equalised learning rate": ("rgb2thermal/progressive", G, "ProgressiveUNet",
        equalised.EqualConv2d, "Karras et al. 2018", has("generator", equalised.EqualConv2d)),
    "adaptive instance norm": ("rgb2thermal/adain", f"{G}.modulation", "instance",
        style.AdaptiveInstanceNorm, "Huang and Belongie 2017",
        has("generator", style.AdaptiveInstanceNorm)),
    "style modulation": ("rgb2thermal/style", f"{G}.modulation", "weights", style.ModulatedConv2d,
        "Karras et al. 2020", has("generator", style.ModulatedConv2d)),
    "mapping network": ("rgb2thermal/style", f"{G}.style", 16, style.MappingNetwork,
        "Karras et al. 2019", has("generator", style.MappingNetwork)),
    "truncation of w": ("rgb2thermal/style", f"{G}.truncation", 0.7, style.StyleResNet,
        "StyleGAN, appendix B", lambda m: m.generator.truncation == 0.7),
    "truncation of z": ("rgb2thermal/style", f"{G}.limit", 2.0, style.StyleResNet,
        "Brock et al. 2019", lambda m: m.generator.limit == 2.0),
    "orthogonal regularisation": ("rgb2thermal/attention", "method.orthogonal", 0.0001,
        modules.add_orthogonal_gradient, "Brock, Donahue and Simonyan 2019",
        of("orthogonal", 0.0001)),
    "orthogonal start": ("rgb2thermal/attention", f"{G}.initial", "orthogonal", layers.initialise,
        "Saxe et al. 2014", lambda m: m.generator.arguments["initial"] == "orthogonal"),
}  # fmt: skip


def option(config, path):
    """Return what a recipe's YAML says at a dotted name; a class by its name."""
    node = config
    for part in path.split("."):
        node = node.get("init_args", node)[part] if part != "method" else node[part]
    return node["class_path"] if isinstance(node, dict) else node


@pytest.mark.parametrize("technique", TABLE)
def test_a_recipe_has_it_and_its_source_is_named(technique):
    name, path, value, documented, source, shows = TABLE[technique]
    written = yaml.safe_load(recipe.available()[name].read_text())
    assert option(written, path) == value
    texts = inspect.getdoc(documented), sys.modules[documented.__module__].__doc__
    assert any(source in " ".join(str(text).split()) for text in texts)
    config = recipe.load(name, [*tiny.overrides(name), "--data.manifest=pairs.csv"])
    assert shows(recipe_parser.instantiate(recipe_parser.parse(config)).method)
