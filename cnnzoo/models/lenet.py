"""LeNet."""

from __future__ import annotations

from cnnzoo.blocks import AvgPool, Conv, Dense, Flatten, Logits
from cnnzoo.published import D2L_SLIDE, Published
from cnnzoo.registry import register
from cnnzoo.spec import Spec


@register(
    published=(
        Published("Conv1 parameters", "150", D2L_SLIDE, "weights", ("conv1",), note="without biases"),
        Published("Conv2 parameters", "2.4K", D2L_SLIDE, "weights", ("conv2",), note="without biases"),
        Published(
            "Dense1 parameters", "0.48M", D2L_SLIDE, "weights", ("fc3",), note="ten times too large: 400 x 120 = 48,000"
        ),
        Published(
            "Dense2 parameters", "0.1M", D2L_SLIDE, "weights", ("fc4",), note="ten times too large: 120 x 84 = 10,080"
        ),
        Published(
            "parameters",
            "0.6M",
            D2L_SLIDE,
            "parameters",
            note="ten times too large, as its rows of the dense layers are: 400 x 120 = 48,000, not 0.48M",
            headline=True,
        ),
        Published("Conv1 FLOP", "1.2M", D2L_SLIDE, "macs", ("conv1",), note="ten times too large"),
        Published("Conv2 FLOP", "2.4M", D2L_SLIDE, "macs", ("conv2",), note="ten times too large"),
        Published("Dense1 FLOP", "0.48M", D2L_SLIDE, "macs", ("fc3",), note="ten times too large"),
        Published("Dense2 FLOP", "0.1M", D2L_SLIDE, "macs", ("fc4",), note="ten times too large"),
        Published("FLOP", "4M", D2L_SLIDE, "macs", note="ten times too large, as each of its rows is", headline=True),
    ),
)
def lenet(num_classes: int = 10, in_channels: int = 1, image_size: int = 28) -> Spec:
    """LeNet as taught in Dive into Deep Learning: LeNet-5 with full connections, sigmoids and average pooling."""
    return Spec(
        name="lenet",
        input=(in_channels, image_size, image_size),
        features=(
            Conv(6, kernel=5, padding=2, activation="sigmoid"),  #  6 @ 28x28
            AvgPool(2, stride=2),  #  6 @ 14x14
            Conv(16, kernel=5, activation="sigmoid"),  # 16 @ 10x10
            AvgPool(2, stride=2),  # 16 @ 5x5
            Flatten(),  # 400
        ),
        classifier=(
            Dense(120, activation="sigmoid"),
            Dense(84, activation="sigmoid"),
            Logits(num_classes),
        ),
    )
