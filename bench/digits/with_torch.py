"""The digits MLP from import to score, in PyTorch."""

import json
import sys

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

torch.set_num_threads(2)
rows = np.random.default_rng(0).permutation(1797)
pixels, digits = load_digits(return_X_y=True)
train, test = rows[:1437], rows[1437:]
scale = pixels[train].std(0) + 1e-7
x = torch.from_numpy(((pixels - pixels[train].mean(0)) / scale).astype(np.float32))
y = torch.from_numpy(digits)
x_train, y_train, x_test, y_test = x[train], y[train], x[test], y[test]

net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))
optimizer = torch.optim.Adam(net.parameters(), 1e-3)
for _ in range(20):
    for batch in torch.randperm(len(x_train)).split(32):
        loss = nn.functional.cross_entropy(net(x_train[batch]), y_train[batch])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
with torch.inference_mode():
    accuracy = (net(x_test).argmax(1) == y_test).float().mean().item()
json.dump({"accuracy": accuracy}, sys.stdout)
