# %% [markdown]
# # Network in Network
#
# The network of the chapter [Network in Network (NiN)](https://d2l.ai/chapter_convolutional-modern/nin.html) of *Dive
# into Deep Learning*: a convolution is followed by two of 1x1, and an average over each map takes the place of dense
# layers.

# %%
from dataclasses import replace

import cnnzoo

DATA, IMAGES, EPOCHS = "fashion_mnist_sample", 256, 1  # the chapter: "fashion_mnist", None, 10
WIDTH, SIZE = 0.25, 96  # 1, 224

# %% [markdown]
# ## The network
#
# Without dense layers it has a twenty-third of AlexNet's parameters, with about as many multiply-adds.

# %%
print(cnnzoo.count("nin_d2l"))
print(cnnzoo.compare("alexnet", "nin_d2l"))

# %% [markdown]
# It was derived from the network that the authors published for ImageNet:

# %%
print(cnnzoo.diff("nin", "nin_d2l"))

# %% [markdown]
# ## Training
#
# Batches of 128, SGD with a rate of 0.05 (0.1 in older editions).

# %%
data = cnnzoo.load_data(DATA)
data = replace(data, train=data.train[:IMAGES], test=data.test[:IMAGES])
model = cnnzoo.create("nin_d2l", width=WIDTH, image_size=SIZE, seed=0)
book = cnnzoo.TrainConfig(epochs=EPOCHS, batch_size=128, lr=0.05, init="xavier_uniform")
print(cnnzoo.Trainer(model, data, book).fit())

# %% [markdown]
# ## Exercises
#
# **One 1x1 convolution less per block**:

# %%
nin = cnnzoo.get_spec("nin_d2l")
print(cnnzoo.compare(nin, cnnzoo.remove(nin, "cccp2", "cccp4", "cccp6"), names=["two", "one"]))

# %% [markdown]
# **Memory, parameters, multiply-adds**: all columns of the count, and the memory of a training step.

# %%
print(cnnzoo.count(nin).training_memory("sgd", batch_size=128))
