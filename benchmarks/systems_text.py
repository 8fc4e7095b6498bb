"""What docs/systems.md says of each recipe: the idea, what it is good at here, what it costs.

`{mae[NAME]}` and `{r[NAME]}` stand for numbers of the short trainings, `{long_mae[NAME]}` and
`{long_r[NAME]}` for those of the long ones, so that words and table cannot disagree.
"""

from __future__ import annotations

#: What you have, which recipes to take, why.
ADVICE = (
    (
        "colours in reflectance, and the error of the result matters",
        "`rgb2nir/local-pyramid`",
        "It is the recipe of the bundled model, which has 0.81 of the error of `mlp` at 18 "
        "Sentinel-2 places that nobody saw ([the bundled models](models.md)). Few weights, no "
        "seams, minutes to hours of training.",
    ),
    (
        "some hundred pairs and a few minutes",
        "`rgb2nir/mlp`, then `rgb2nir/local-statistics`",
        "After a short training their MAE is {mae[rgb2nir/mlp]} and "
        "{mae[rgb2nir/local-statistics]}; `linear` has {mae[rgb2nir/linear]}.",
    ),
    (
        "a coarser or older measurement of the same place",
        "`rgb2nir/guided`, `rgb2thermal/guided`, `sar2optical/guided`",
        "Half of the error at a new place is one constant, and the guide knows it: "
        "[guiding](guiding.md).",
    ),
    (
        "many thousands of pairs, and a result that should look like a picture",
        "`rgb2nir/wgan-gp-small`, `rgb2nir/nir-gan`, `sar2optical/pix2pix`",
        "An adversarial loss gives detail and costs error, and needs a long training: after it the "
        "first two have MAE {long_mae[rgb2nir/wgan-gp-small]} and {long_mae[rgb2nir/nir-gan]} at "
        "places where `linear` has {mae[rgb2nir/linear]}, and `local-statistics` after a minute "
        "{mae[rgb2nir/local-statistics]}.",
    ),
    (
        "the need for several plausible answers, or for their spread",
        "`rgb2nir/flow-matching`, `rgb2nir/diffusion`",
        "Only these draw from a distribution. They learn it slowly: after a short training a draw "
        "of diffusion is noise (r {r[rgb2nir/diffusion]}), after a long one a draw of flow "
        "matching has r {long_r[rgb2nir/flow-matching]} and MAE "
        "{long_mae[rgb2nir/flow-matching]}. For intervals of a single answer, take [a calibrated "
        "model](uncertainty.md) instead.",
    ),
    (
        "Sentinel-1 in decibels, and few places",
        "`sar2optical/local-pyramid`, `sar2optical/local-statistics`",
        "Strictly local, few weights. The first is the recipe of the bundled model; the second "
        "has MAE {mae[sar2optical/local-statistics]}, `linear` {mae[sar2optical/linear]}.",
    ),
    (
        "pairs of colours and thermal images",
        "`rgb2thermal/mlp` to begin with, then `rgb2thermal/street`",
        "After a short training the second has MAE {mae[rgb2thermal/street]}, colour alone "
        "{mae[rgb2thermal/mlp]}, and the best of the published systems, `pix2pix`, "
        "{mae[rgb2thermal/pix2pix]}.",
    ),
    (
        "colours and thermal images of different places",
        "`rgb2thermal/cyclegan`",
        "No system without pairs reaches the mean (MAE {mae[rgb2thermal/mean]}): after a long "
        "training CycleGAN has {long_mae[rgb2thermal/cyclegan]} and UNIT "
        "{long_mae[rgb2thermal/unit]}. Collect pairs if you can.",
    ),
    (
        "coarse pixels that should be fine",
        "`super-resolution/subpixel`, or `super-resolution/edsr-small`",
        "The first is the recipe of the bundled models. The second is ahead of bicubic within "
        "minutes ({mae[super-resolution/edsr-small]} against {mae[super-resolution/bicubic]}).",
    ),
    (
        "Sentinel-2 with bands of 20 m",
        "`super-resolution/sharpen`",
        "It takes the four bands of 10 m as guide: [sharpening](guiding.md#20-m-bands-at-10-m).",
    ),
)

#: Recipe -> its paragraph.
STORIES = {
    "rgb2nir/local-pyramid": (
        "A small network sees the colour of a pixel and smooth statistics of its surroundings at "
        "several scales. Where these are unlike the training's, a mean with per-pixel fits "
        "answers. It is the recipe of the bundled `rgb2nir`: good where the error counts and "
        "places are new, without texture of its own. It trains on a CPU, and tiles equal the "
        "whole image."
    ),
    "rgb2nir/local-statistics": (
        "A perceptron of the colour of a pixel and of means and deviations around it. It has the "
        "lowest error after a short training, because it has few weights and nothing adversarial. "
        "It knows no shapes, so that a field and a roof of one colour get one answer."
    ),
    "rgb2nir/local-unet": (
        "A perceptron for each pixel and residual blocks on every fourth pixel, four members "
        "averaged. It was the recipe of the bundled model of version 0.1. The short training is "
        "too short for it."
    ),
    "rgb2nir/cnn": (
        "NIR-GAN's own baseline: three convolutions with squared error. Its surroundings are "
        "three pixels, enough to remove noise and to follow edges. Seconds of training; a fair "
        "first test of a data set."
    ),
    "rgb2nir/guided": (
        "A correction of the bundled network by a guide: an older or coarser image of the same "
        "place that has the near infrared. It was not part of these runs, which have no guides; "
        "[guiding](guiding.md) has its numbers."
    ),
    "rgb2nir/wgan-gp-small": (
        "A conditional Wasserstein GAN with a gradient penalty beside L1, on crops of 64 pixels. "
        "The critic sees colours and near infrared together. It gives sharper edges than L1 alone. "
        "Each step trains the critic five times, and the penalty needs second derivatives in fp32, "
        "so that it is the slowest small recipe."
    ),
    "rgb2nir/wgan-gp": (
        "The same system for 256 pixels: one level more, batches of 128, four critic steps. It is "
        "meant for an accelerator and a hundred thousand pairs. On a CPU take the small one."
    ),
    "rgb2nir/nir-gan": (
        "A ResNet with nine blocks, a least-squares GAN of patches, and losses of NDVI, NDWI and "
        "EVI beside L1. The index losses put the effort where vegetation is. Crops are made "
        "coarser at random, so that it holds for several resolutions. It has the most computation "
        "for each pixel of the recipes with pairs, and starts slowly."
    ),
    "rgb2nir/nir-gan-satclip": (
        "NIR-GAN with an embedding of longitude and latitude, which scales the features: a forest "
        "in Finland is not one in Laos. It needs coordinates, and thousands of places to learn "
        "from; with a hundred places it can only learn them by heart."
    ),
    "rgb2nir/flow-matching": (
        "A U-Net learns the velocity from noise to the near infrared along straight lines; a "
        "scene is then drawn in ten steps of the midpoint rule. Draws differ where colours leave "
        "the answer open, so that their spread is an uncertainty. It needs a hundred times the "
        "samples of a regression, and twenty network passes for a scene."
    ),
    "rgb2nir/discrete-flow-matching": (
        "The same on a fixed grid of 50 times, at 128 pixels, with a smaller field. A scene takes "
        "50 passes."
    ),
    "rgb2nir/diffusion": (
        "Denoising diffusion with the network of flow matching. It is here to be compared with "
        "it: the noise schedule weighs the steps otherwise. Of the two, begin with flow matching, "
        "whose paths are straight."
    ),
    "rgb2thermal/pix2pix": (
        "A U-Net of eight levels with a discriminator of patches, beside L1. It draws warm "
        "engines and cold skies where it saw such shapes; of the published systems it has the "
        "lowest error and the highest r of the short runs. It goes wrong where another drive has "
        "another gain: thermal pictures of 8 bits have no common scale."
    ),
    "rgb2thermal/wgan-gp": (
        "The conditional Wasserstein GAN of the near infrared, for thermal images. It is between "
        "pix2pix and the line after a short training, in error and in r."
    ),
    "rgb2thermal/improved": (
        "pix2pix with what Salimans et al. found to steady a GAN: smoothed labels, minibatch "
        "discrimination, virtual batch norm, mismatched pairs. In the short runs it is close "
        "behind pix2pix, with little more work for a step."
    ),
    "rgb2thermal/attention": (
        "Self-attention in both networks, spectral norm and a hinge loss. Attention relates "
        "distant parts of a picture, as both sides of a road. After a short training it is behind "
        "pix2pix in error and in r."
    ),
    "rgb2thermal/adain": (
        "A style code sets mean and deviation of every channel, so that one source has several "
        "plausible answers. After a short training it is ahead of the line, and behind pix2pix."
    ),
    "rgb2thermal/style": (
        "A style code modulates the weights, with a relativistic loss. As `adain` it gives "
        "several answers, with fewer weights; of the GANs it keeps the structure best (SSIM)."
    ),
    "rgb2thermal/progressive": (
        "Generator and critic begin with coarse pictures and grow. Early steps are cheap, and "
        "large shapes come first. Growing takes 60 % of its steps, so that a short training "
        "leaves little time for fine detail."
    ),
    "rgb2thermal/thermalgan": (
        "Two steps: first mean temperatures for each region in one of several styles, then "
        "contrasts inside. It is made for temperatures in kelvin; on 8-bit pictures with "
        "automatic gain the first step has nothing to hold on to. It has the largest crops (512)."
    ),
    "rgb2thermal/street": (
        "Crossband's own network for pictures taken along the ground: it sees the whole picture in "
        "small and knows positions, since the sky is above and the road below. It is small and has "
        "no discriminator. [The bundled models](models.md) say how it does on drives that it never "
        "saw."
    ),
    "rgb2thermal/guided": (
        "A correction of a coarse thermal measurement by fine colours, as Landsat's 100 m by its "
        "30 m. It was not part of these runs, which have no guides; [guiding](guiding.md) has its "
        "numbers."
    ),
    "rgb2thermal/cyclegan": (
        "Two generators that must bring each other's output back, without pairs, and a loss that "
        "keeps the structure of the source. It learns which pictures look thermal; nothing tells "
        "it which object is warm, so that contrasts may come out inverted. A step runs four "
        "generator passes and four discriminators."
    ),
    "rgb2thermal/discogan": (
        "Two U-Nets with reconstruction in both directions, without pairs and without a structure "
        "loss. On drives it finds one of many one-to-one relations, which may be an inverted one. "
        "A step costs as much as one of CycleGAN, and says less."
    ),
    "rgb2thermal/dualgan": (
        "The same idea with Wasserstein critics of clipped weights. A step of the generators has "
        "three of the critics, and clipping keeps the critics weak."
    ),
    "rgb2thermal/unit": (
        "Two variational autoencoders share a latent space: what a road is, is one code in both. "
        "It needs no pairs. Two encoders, two decoders and two discriminators make its steps dear."
    ),
    "rgb2thermal/unit-vit": (
        "UNIT with vision transformers on patches of 16 pixels. Transformers need more pictures "
        "than any data set here has; edges of patches are visible for long. It has a hundred "
        "million weights at full width."
    ),
    "sar2optical/local-pyramid": (
        "Backscatter of a pixel and smooth statistics around it, for few places: the recipe of "
        "the bundled `sar2optical`. It averages speckle away by itself, and has no seams."
    ),
    "sar2optical/local-statistics": (
        "A perceptron of the two polarisations and of statistics around them. After a short "
        "training its error is far below the line's. Its pictures are smooth: it gives the mean "
        "of what such a backscatter can be."
    ),
    "sar2optical/pix2pix": (
        "The U-Net of eight levels with a discriminator of patches, trained as SAR2Optical. It "
        "draws fields and roads that look true and often are not there. Take it for pictures that "
        "people look at, with thousands of pairs, not for measuring."
    ),
    "sar2optical/pix2pixhd": (
        "Coarse to fine generators, three discriminators and feature matching, no L1. It is made "
        "for large pictures and many pairs: even at a quarter of its width it has eleven million "
        "weights."
    ),
    "sar2optical/guided": (
        "An optical image of another date as guide, and the radar for what has changed. It was "
        "not part of these runs, which have no guides; [guiding](guiding.md) has its numbers."
    ),
    "super-resolution/subpixel": (
        "Residual blocks on coarse pixels that add detail to the bicubic picture: the recipe of "
        "the bundled models. Coarse pixels make it fast, and where there is no detail it stays "
        "with bicubic."
    ),
    "super-resolution/edsr-small": (
        "EDSR with 8 blocks of 32 channels on top of the bicubic picture. Because it begins at "
        "bicubic, it is ahead of it after minutes."
    ),
    "super-resolution/edsr": (
        "EDSR-baseline as published, without the bicubic skip. It must learn the picture itself "
        "first, which takes thousands of steps: the paper gives it 300,000. It is made for an "
        "accelerator."
    ),
    "super-resolution/unet-autoencoder": (
        "A U-Net on the bicubic picture with squared error and dropout, after a public script. "
        "Its bottleneck loses detail that it must restore, so that it stays behind bicubic for "
        "long. It is here because people use it."
    ),
    "super-resolution/photographs": (
        "A light network for photographs at x4, compared as published systems are. Its training "
        "pictures allow research only, so that no weights are shipped. It is ahead of VDSR, which "
        "was trained on the same pictures, at all three sets."
    ),
    "super-resolution/sharpen": (
        "The 20 m bands of Sentinel-2 at 10 m, guided by the 10 m bands. It was not part of these "
        "runs, which have no guides; [sharpening](guiding.md#20-m-bands-at-10-m) has its numbers."
    ),
    "super-resolution/sharpened": (
        "A baseline with one number: bicubic after an unsharp mask. A network that does not beat "
        "it has learned to sharpen and nothing else."
    ),
}

#: Why a long training does not show all that it must.
WHY: dict[str, str] = {
    "rgb2nir/wgan-gp-small": (
        "The critic has first to learn: in 3,000 steps its penalty falls from 0.15 to 0.0003, and "
        "its estimate grows meanwhile. L1 weighs a hundred times as much, so that the generator "
        "hardly follows the critic. Its error falls by more than a quarter all the same."
    ),
    "rgb2nir/nir-gan-satclip": (
        "It learns its places by heart: only 97 pairs of 76 places have coordinates, and at the "
        "end the L1 of training is 0.017, a seventh of the error at unseen places. The same "
        "generator without coordinates has MAE 0.0983 on these pairs after 128,000 samples "
        "(`reference.py run --only rgb2nir/nir-gan`, with `--manifest` of this run's pairs.csv): "
        "so few pairs are most of the distance to `linear`, and coordinates a third of it. On the "
        "chips it is ahead of `linear`. With shuffled places the error is as good as the same."
    ),
    "rgb2thermal/cyclegan": (
        "Nothing tells it which things are warm, so that its error stays above that of a constant, "
        "and goes up and down at unseen places. It is ahead of luminance in MAE and KID."
    ),
    "rgb2thermal/unit": (
        "As with CycleGAN nothing tells it which things are warm. It is ahead of luminance in MAE "
        "and KID, its cycle error falls by almost a half, and its error was still falling at the "
        "end."
    ),
    "sar2optical/pix2pix": (
        "It has 103 pictures to learn from (SEN1-2, and parts of two large scenes), and is judged "
        "at other ground of the two scenes; the published training has 12,800. L1 of training "
        "falls from 0.23 to about 0.12, and the error at unseen ground does not fall: it goes up "
        "and down from the first point on. The discriminator has not won: its loss stays between "
        "0.1 and 1. One polarisation says little of colours: a line has r 0.00 here. What it "
        "learns is texture: SSIM and r are ahead of the line's, and it draws streets where there "
        "are streets, in colours that are often wrong."
    ),
}
