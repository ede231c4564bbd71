# %% [markdown]
# # Batch normalization
#
# LeNet with batch normalization, as in the chapter [Batch
# Normalization](https://d2l.ai/chapter_convolutional-modern/batch-norm.html) of *Dive into Deep Learning*.

# %%
import torch
from torch import nn

import cnnzoo

DATA, EPOCHS = "fashion_mnist_sample", 2  # the chapter: "fashion_mnist", 10

# %% [markdown]
# ## The computation
#
# In training, each channel is normalized by mean and variance of the batch, then scaled and shifted by two trained
# values. In evaluation, running averages take the place of the batch.

# %%
torch.manual_seed(0)
x, norm = torch.randn(8, 3, 5, 5), nn.BatchNorm2d(3)
mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), unbiased=False, keepdim=True)
torch.testing.assert_close(norm(x), (x - mean) / (variance + norm.eps).sqrt())
torch.testing.assert_close(norm.running_mean, 0.1 * mean.flatten())

# %% [markdown]
# ## LeNet with it
#
# The knob `norm` adds a normalization after every convolution. The chapter also normalizes the hidden dense layers.

# %%
spec = cnnzoo.get_spec("lenet", norm="batch")
print(cnnzoo.diff("lenet", spec))

# %% [markdown]
# ## Training
#
# Batches of 256 images, SGD with a rate of 1.0, as in the second edition.

# %%
data = cnnzoo.load_data(DATA)
book = cnnzoo.TrainConfig(epochs=EPOCHS, batch_size=256, lr=1.0, init="xavier_uniform")
model = cnnzoo.create(spec, seed=0)
print(cnnzoo.Trainer(model, data, book).fit())

# %% [markdown]
# ## Exercises
#
# **Trained scales of the first layer**, which start as 1:

# %%
first = next(module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm))
print(first.weight.detach())

# %% [markdown]
# **Normalization in one layer only**:

# %%
print(cnnzoo.diff("lenet", cnnzoo.edit(spec, "conv2", norm=None)))
