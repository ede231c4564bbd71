# %% [markdown]
# # ResNet
#
# The network of the chapter [Residual Networks (ResNet)](https://d2l.ai/chapter_convolutional-modern/resnet.html) of
# *Dive into Deep Learning*: ResNet-18 for one channel and ten classes.

# %%
from dataclasses import replace

import cnnzoo

DATA, IMAGES, EPOCHS = "fashion_mnist_sample", 256, 1  # the chapter: "fashion_mnist", None, 10
WIDTH, SIZE = 0.25, 64  # 1, 96

# %% [markdown]
# ## The network
#
# The output of two convolutions is added to their input; where the size changes, a 1x1 convolution adapts the input.

# %%
print(cnnzoo.count("resnet18_d2l"))

# %% [markdown]
# torchvision's ResNet-18 differs in details:

# %%
print(cnnzoo.diff("resnet18", "resnet18_d2l"))

# %% [markdown]
# ## Training
#
# Batches of 256 images of 96 px, SGD with a rate of 0.05. An online copy of the second edition printed a loss of
# 0.012, 0.997 on training images and 0.893 on test images after ten epochs: the network overfits.

# %%
data = cnnzoo.load_data(DATA)
data = replace(data, train=data.train[:IMAGES], test=data.test[:IMAGES])
model = cnnzoo.create("resnet18_d2l", width=WIDTH, image_size=SIZE, seed=0)
book = cnnzoo.TrainConfig(epochs=EPOCHS, batch_size=64, lr=0.05, init="xavier_uniform")
print(cnnzoo.Trainer(model, data, book).fit())

# %% [markdown]
# ## Exercises
#
# **Deeper variants of the paper's table**, with bottlenecks from 50 layers on:

# %%
print(cnnzoo.compare("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"))

# %% [markdown]
# **The published counts**, checked:

# %%
print(cnnzoo.verify("resnet18"))
