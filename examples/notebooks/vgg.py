# %% [markdown]
# # VGG
#
# The network of the chapter [Networks Using Blocks (VGG)](https://d2l.ai/chapter_convolutional-modern/vgg.html) of
# *Dive into Deep Learning*: VGG-11 for one channel and ten classes.

# %%
from dataclasses import replace

import cnnzoo

DATA, IMAGES, EPOCHS = "fashion_mnist_sample", 128, 1  # the chapter: "fashion_mnist", None, 10
WIDTH, SIZE = 0.125, 64  # 0.25, 224

# %% [markdown]
# ## The network
#
# Stages of 3x3 convolutions; a pool halves the maps after each. Two such convolutions see as much as one of 5x5, with
# 18 weights per pair of maps instead of 25.

# %%
print(cnnzoo.count("vgg11_d2l"))

# %% [markdown]
# The paper's networks differ in the number of convolutions per stage only.

# %%
print(cnnzoo.compare("vgg11", "vgg13", "vgg16", "vgg19"))

# %% [markdown]
# ## Training
#
# The chapter trains a narrow version, with a quarter of the channels: batches of 128, SGD with a rate of 0.05. An
# online copy of the second edition printed a loss of 0.178, 0.935 on training images and 0.920 on test images after
# ten epochs.

# %%
data = cnnzoo.load_data(DATA)
data = replace(data, train=data.train[:IMAGES], test=data.test[:IMAGES])
model = cnnzoo.create("vgg11_d2l", width=WIDTH, image_size=SIZE, seed=0)
book = cnnzoo.TrainConfig(epochs=EPOCHS, batch_size=64, lr=0.05, init="xavier_uniform")
print(cnnzoo.Trainer(model, data, book).fit())

# %% [markdown]
# ## Exercises
#
# **Slower than AlexNet, and larger in memory**: count both.

# %%
print(cnnzoo.compare("vgg11_d2l", "alexnet"))
for name in ("vgg11_d2l", "alexnet"):
    memory = cnnzoo.count(name).training_memory("sgd", batch_size=128)
    print(f"{name}: {memory.total / 1e9:.1f} GB for a step of 128 images")

# %% [markdown]
# **Smaller images**: the least size, and what a change from 224 to 96 px saves.

# %%
print(cnnzoo.compare("vgg11_d2l", cnnzoo.get_spec("vgg11_d2l", image_size=96), names=["224 px", "96 px"]))
