# %% [markdown]
# # AlexNet
#
# The network of the chapter [Deep Convolutional Neural Networks
# (AlexNet)](https://d2l.ai/chapter_convolutional-modern/alexnet.html) of *Dive into Deep Learning*. The whole network
# is slow on a CPU, so the quick settings train it at a quarter of its width on few images.

# %%
from dataclasses import replace

import cnnzoo

DATA, IMAGES, EPOCHS = "fashion_mnist_sample", 256, 1  # the chapter: "fashion_mnist", None, 10
WIDTH = 0.25  # 1

# %% [markdown]
# ## The network, beside LeNet

# %%
comparison = cnnzoo.compare("alexnet", "lenet")
print(comparison)

# %% [markdown]
# Its two large dense layers hold 43 million of 47 million parameters, 172 MB in float32, but need less than a
# twentieth of the multiply-adds.

# %%
report = cnnzoo.count("alexnet")
for label in ("fc6", "fc7"):
    layer = report.by("label")[label]
    params, macs = layer["params"] / report.params.total, layer["macs"] / report.macs
    print(f"{label}: {params:.0%} of the parameters, {macs:.1%} of the multiply-adds")

# %% [markdown]
# ## Training
#
# Batches of 128 images of 224 px, plain SGD with a rate of 0.01. The lecture printed a loss of 0.326, 0.880 on
# training images and 0.882 on test images after ten epochs.

# %%
data = cnnzoo.load_data(DATA)
data = replace(data, train=data.train[:IMAGES], test=data.test[:IMAGES])
book = cnnzoo.TrainConfig(epochs=EPOCHS, batch_size=128, lr=0.01, init="xavier_uniform")
print(cnnzoo.Trainer(cnnzoo.create("alexnet", width=WIDTH, seed=0), data, book).fit())

# %% [markdown]
# ## Exercises
#
# **More epochs**: with the recipe `fast/alexnet`, ten epochs on all of Fashion-MNIST end at a test accuracy of .936.
#
# **A simpler network for small images**: half of the width and of the image size.

# %%
small = cnnzoo.get_spec("alexnet", image_size=112, width=0.5)
print(cnnzoo.compare("alexnet", small, names=["alexnet", "112 px, half as wide"]))

# %% [markdown]
# **Batch size and memory**: a step without running it. `batch_sizes.py` measures speed and accuracy too.

# %%
for batch_size in (32, 128, 512):
    print(batch_size, f"{report.training_memory('sgd', batch_size=batch_size).total / 1e9:.2f} GB")
print(report.max_batch_size("8 GB", "sgd"))

# %% [markdown]
# **Where memory and time go**: `memory_and_compute.py` and `roofline.py`. **Dropout and ReLU in LeNet**:

# %%
lenet = cnnzoo.create("lenet", activation="relu", dropout=0.2, seed=0)
print(cnnzoo.Trainer(lenet, data, cnnzoo.recipe("quick", lenet).replace(epochs=EPOCHS)).fit())

# %% [markdown]
# **Make AlexNet overfit**: `overfit_alexnet.py` does, and shows a setting in which it does not train at all.
