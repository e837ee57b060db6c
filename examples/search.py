"""A search on the handwritten digits: 40 trials, pruned by ASHA, the best trained again.   python examples/search.py

Study(40 trials: 2 finished, 38 pruned; best accuracy 0.9741, trial 1)
what mattered: optimizer.learning_rate
accuracy 0.967 on rows it has not seen
"""

import derin
from derin import nn, optim

space = derin.Experiment(
    nn.Sequential(nn.Linear(32), nn.ReLU(), nn.Dropout(derin.uniform(0.0, 0.5)), nn.Linear(10)),
    optimizer=optim.SGD(derin.log(1e-4, 1.0), momentum=derin.one_minus_log(0.5, 0.99)),
    epochs=27,
    batch_size=64,
    metrics=("accuracy",),
)

if __name__ == "__main__":
    study = derin.tune(space, derin.load_data("digits"), trials=40, pruner="asha", progress=False)
    print(study)
    print(f"what mattered: {next(iter(study.importance()))}")
    run = study.refit(progress=False)
    print(f"accuracy {run.evaluate('test')['accuracy']:.3f} on rows it has not seen")
