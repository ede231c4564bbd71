# %% [markdown]
# # LeNet
#
# The network of the chapter [Convolutional Neural Networks
# (LeNet)](https://d2l.ai/chapter_convolutional-neural-networks/lenet.html) of *Dive into Deep Learning*, with today's
# PyTorch. The settings below are quick; the comment beside them has those of the chapter.

# %%
import cnnzoo

DATA, EPOCHS = "fashion_mnist_sample", 2  # the chapter: "fashion_mnist", 10

# %% [markdown]
# ## The network
#
# Two convolutions with sigmoid and average pooling, then three dense layers.

# %%
print(cnnzoo.count("lenet"))

# %% [markdown]
# LeNet-5 of 1998 differs in more than its output layer: not every map of the second convolution reads every map before
# it, pooling has weights, and the activation is a scaled tanh.

# %%
print(cnnzoo.diff("lenet5_1998", "lenet"))

# %% [markdown]
# ## Training
#
# Batches of 256 images, plain SGD with a rate of 0.9, Xavier weights. An online copy of the second edition printed a
# loss of 0.469, 0.823 on training images and 0.779 on test images after ten epochs; another run of the same code ends
# elsewhere.

# %%
data = cnnzoo.load_data(DATA)
book = cnnzoo.TrainConfig(epochs=EPOCHS, batch_size=256, lr=0.9, init="xavier_uniform")
run = cnnzoo.Trainer(cnnzoo.create("lenet", seed=0), data, book).fit()
print(run)

# %% [markdown]
# Gradients vanish in sigmoids whose weights start small. A recipe chooses initial weights and optimizer by what the
# network is made of.

# %%
model = cnnzoo.create("lenet", seed=0)
print(cnnzoo.Trainer(model, data, cnnzoo.recipe("quick", model).replace(epochs=EPOCHS)).fit())

# %% [markdown]
# ## Exercises
#
# **A modern LeNet**: ReLU and max pooling.

# %%
modern = cnnzoo.create("lenet", activation="relu", pooling="max", seed=0)
print(cnnzoo.Trainer(modern, data, cnnzoo.recipe("quick", modern).replace(epochs=EPOCHS)).fit())

# %% [markdown]
# **Other kernels, channels, layers.** A network is a value: change it, and count the effect before training.

# %%
lenet = cnnzoo.get_spec("lenet")
wider = cnnzoo.get_spec("lenet", width=2)
small_kernels = cnnzoo.edit(lenet, "conv*", kernel_size=3)
print(cnnzoo.compare(lenet, wider, small_kernels, names=["lenet", "twice as wide", "kernels of 3"]))

# %% [markdown]
# **Maps of the first layer**: the example `activations.py` draws them for pullovers, coats and noise.

# %%
maps = cnnzoo.features(modern, "conv1", cnnzoo.transforms(modern)(data.test.images[0])[None])["conv1"]
print(tuple(maps.shape))
