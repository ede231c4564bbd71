# %% [markdown]
# # GoogLeNet
#
# The network of the chapter [Multi-Branch Networks
# (GoogLeNet)](https://d2l.ai/chapter_convolutional-modern/googlenet.html) of *Dive into Deep Learning*: nine Inception
# blocks, each with four paths whose maps are concatenated.

# %%
from dataclasses import replace

import cnnzoo

DATA, IMAGES, EPOCHS = "fashion_mnist_sample", 128, 1  # the chapter: "fashion_mnist", None, 10
WIDTH, SIZE = 0.25, 96  # 1, 96

# %% [markdown]
# ## The network

# %%
print(cnnzoo.count("googlenet_d2l"))

# %% [markdown]
# Beside the network of the paper, whose table is checked row by row:

# %%
print(cnnzoo.compare("googlenet_d2l", "googlenet_2014", "alexnet", "vgg11_d2l"))
print(cnnzoo.verify("googlenet_2014"))

# %% [markdown]
# ## Training
#
# Batches of 128 images of 96 px, SGD with a rate of 0.1. An online copy of the second edition printed a loss of 0.262,
# 0.900 on training images and 0.886 on test images after ten epochs.

# %%
data = cnnzoo.load_data(DATA)
data = replace(data, train=data.train[:IMAGES], test=data.test[:IMAGES])
model = cnnzoo.create("googlenet_d2l", width=WIDTH, image_size=SIZE, seed=0)
book = cnnzoo.TrainConfig(epochs=EPOCHS, batch_size=64, lr=0.1, init="xavier_uniform")
print(cnnzoo.Trainer(model, data, book).fit())

# %% [markdown]
# ## Exercises
#
# **Batch normalization in it**, as in the networks that followed: a knob adds it after every convolution.

# %%
normalized = cnnzoo.get_spec("googlenet_d2l", norm="batch")
print(cnnzoo.compare("googlenet_d2l", normalized, names=["as it is", "with batch norm"]))

# %% [markdown]
# **The smallest image that the network accepts**: any, since its pools are padded and the last one averages over what
# is left.

# %%
for size in (1, 32, 96):
    print(f"{size} px: {cnnzoo.count(cnnzoo.get_spec('googlenet_d2l', image_size=size)).macs:,} multiply-adds")
