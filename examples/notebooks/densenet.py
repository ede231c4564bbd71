# %% [markdown]
# # DenseNet
#
# The network of the chapter [Densely Connected Networks
# (DenseNet)](https://d2l.ai/chapter_convolutional-modern/densenet.html) of *Dive into Deep Learning*: each layer reads
# the maps of all layers before it in its stage.

# %%
from dataclasses import replace

import cnnzoo

DATA, IMAGES, EPOCHS = "fashion_mnist_sample", 256, 1  # the chapter: "fashion_mnist", None, 10
WIDTH, SIZE = 0.5, 64  # 1, 96

# %% [markdown]
# ## The network

# %%
print(cnnzoo.count("densenet_d2l"))

# %% [markdown]
# ## Training
#
# Batches of 256 images of 96 px, SGD with a rate of 0.1. An online copy of the second edition printed a loss of 0.140,
# 0.948 on training images and 0.885 on test images after ten epochs.

# %%
data = cnnzoo.load_data(DATA)
data = replace(data, train=data.train[:IMAGES], test=data.test[:IMAGES])
model = cnnzoo.create("densenet_d2l", width=WIDTH, image_size=SIZE, seed=0)
book = cnnzoo.TrainConfig(epochs=EPOCHS, batch_size=64, lr=0.1, init="xavier_uniform")
print(cnnzoo.Trainer(model, data, book).fit())

# %% [markdown]
# ## Exercises
#
# **Max pools instead of average pools**: a knob changes every pool.

# %%
print(cnnzoo.diff("densenet_d2l", cnnzoo.get_spec("densenet_d2l", pooling="max")))

# %% [markdown]
# **Fewer parameters than ResNet, more memory**: the maps that are concatenated are kept.

# %%
print(cnnzoo.compare("densenet_d2l", "resnet18_d2l"))
for name in ("densenet_d2l", "resnet18_d2l"):
    memory = cnnzoo.count(name).training_memory("sgd", batch_size=256)
    print(f"{name}: {memory.total / 1e9:.2f} GB for a step of 256 images")
