"""VGGs in miniature, as torchvision writes and runs them."""

from __future__ import annotations

import torch
from torch import nn

MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
DEVIATION = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


def network(blocks=(2, 2, 3, 3, 3), width=4, seed=0):
    """The `features` of a VGG: convolutions and ReLUs, a pool after each block."""
    torch.manual_seed(seed)
    layers, channels = [], 3
    for number, count in enumerate(blocks):
        for _ in range(count):
            layers += [nn.Conv2d(channels, width + number, 3, padding=1), nn.ReLU()]
            nn.init.kaiming_normal_(layers[-2].weight)
            nn.init.uniform_(layers[-2].bias, -0.1, 0.1)
            channels = width + number
        layers.append(nn.MaxPool2d(2, 2))
    return nn.Sequential(*layers)


def write(path, features):
    """Write a VGG as torchvision's files have it, its classifier too."""
    state = {f"features.{name}": value for name, value in features.state_dict().items()}
    state |= {"classifier.0.weight": torch.zeros(2, 2), "classifier.0.bias": torch.zeros(2)}
    torch.save(state, path)
    return str(path)


def seen(features, picture, last):
    """What the network sees in a picture [C, H, W] after its layer number `last`."""
    three = picture if len(picture) == 3 else picture.mean(0, keepdim=True).expand(3, -1, -1)
    with torch.no_grad():
        three = (three - MEAN.to(three)) / DEVIATION.to(three)
        return features.to(three.dtype)[: last + 1](three[None])[0]
