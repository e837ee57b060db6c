"""The digits MLP from import to score, in Keras (the backend is set by KERAS_BACKEND)."""

import json
import sys

import keras
import numpy as np
from keras import layers
from sklearn.datasets import load_digits

rows = np.random.default_rng(0).permutation(1797)
pixels, digits = load_digits(return_X_y=True)
train, test = rows[:1437], rows[1437:]
scale = pixels[train].std(0) + 1e-7
x = ((pixels - pixels[train].mean(0)) / scale).astype(np.float32)

net = keras.Sequential([layers.Dense(128, "relu"), layers.Dense(64, "relu"), layers.Dense(10)])
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
net.compile(keras.optimizers.Adam(1e-3), loss, metrics=["accuracy"])
net.fit(x[train], digits[train], epochs=20, batch_size=32, verbose=0)
accuracy = net.evaluate(x[test], digits[test], verbose=0)[1]
json.dump({"accuracy": accuracy}, sys.stdout)
