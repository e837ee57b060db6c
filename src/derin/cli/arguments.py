"""The arguments and options of the commands: what they are called, and what help says of them."""

from __future__ import annotations

from typing import Annotated

from derin.cli.options import Text, Texts, argument, option

SourceToFit = Annotated[
    str,
    argument(
        "SOURCE",
        "What to learn from: a CSV, TSV or Parquet file, a folder of images with a sub-folder a class, an .npy, .npz, "
        "idx or HDF5 file, a bundled set (iris, digits, wine, breast_cancer, diabetes, linnerud), or an experiment "
        "file (.toml) of `derin new`.",
    ),
]
SourceOrStart = Annotated[
    Text, argument("[SOURCE]", SourceToFit.__metadata__[0].help + " With --from it may be left out.")  # type: ignore[attr-defined]
]
SourceToSee = Annotated[str, argument("SOURCE", "The data, as for `derin fit`.")]
SourceToPredict = Annotated[str, argument("SOURCE", "Rows like those of training; the target may be absent.")]
SourceToScore = Annotated[
    Text, argument("[SOURCE]", "Rows with the target, like those of training. Without it: the run's test part.")
]
SourceOfNew = Annotated[
    Text, argument("[SOURCE]", "The data; the file then names them, and holds a network that fits them.")
]
RunPath = Annotated[str, argument("RUN", "The folder of a run: runs/NAME.")]
RunOrStudy = Annotated[str, argument("RUN", "The folder of a run, runs/NAME, or of a study, studies/NAME.")]
ExportFile = Annotated[str, argument("FILE.safetensors", "The file to write.")]

AsJson = Annotated[bool, option("--json", help="Print one JSON object, and nothing else, on standard output.")]
Quiet = Annotated[bool, option("--quiet", "-q", help="Print nothing but errors.")]
Modules = Annotated[
    Texts,
    option(
        "--import",
        metavar="MODULE",
        help="Import this Python module (or file) first: it defines layers of yours. Repeatable.",
    ),
]
Net = Annotated[
    Text,
    option(
        "--net",
        metavar="NET",
        help='mlp:128,64 (hidden layers), cnn, or the layers: "Sequential(Linear(64), ReLU(), Linear(3))".',
    ),
]
Epochs = Annotated[int | None, option("--epochs", metavar="N", help="How often all rows are seen.")]
MoreEpochs = Annotated[int | None, option("--epochs", metavar="N", help="Train up to this many epochs in all.")]
Seed = Annotated[int | None, option("--seed", metavar="N", help="Another number starts from other weights (0).")]
Set = Annotated[
    Texts,
    option(
        "--set",
        metavar="PATH=VALUE",
        help='Any value of the experiment: optimizer.learning_rate=0.01, batch_size=32, optimizer="SGD(0.1)". '
        "`derin new` lists them. Repeatable.",
    ),
]
DataOfFile = Annotated[
    Text,
    option(
        "--data",
        metavar="SOURCE",
        help="With an experiment file: learn from this instead of what its [data] table names.",
    ),
]
MovedData = Annotated[Text, option("--data", metavar="SOURCE", help="Where the same data are now, if they moved.")]
Workers = Annotated[int | None, option("--workers", metavar="N", help="So many processes train, instead of this one.")]
RayAddress = Annotated[
    Text, option("--ray", metavar="ADDRESS", help="A Ray cluster trains: auto, local, or ray://HOST:10001.")
]
Refit = Annotated[
    bool,
    option(
        "--refit/--no-refit",
        help="Train the best trial once more, as a run in STUDY/best, and score it on the test part (done).",
    ),
]
FromRun = Annotated[
    Text,
    option("--from", metavar="RUN", help="Begin with the weights of this run; what fits by name and shape is taken."),
]
RunFolderOut = Annotated[
    Text,
    option("--out", "-o", metavar="FOLDER", help="Where the run is kept: a new folder (runs/NAME-1, -2, ...)."),
]
PredictionsOut = Annotated[
    str, option("--out", "-o", metavar="FILE", help="The file to write: .csv, .tsv or .parquet.")
]
ExperimentOut = Annotated[
    Text, option("--out", "-o", metavar="FILE.toml", help="The file to write, a new one. Without it: the screen.")
]
PartName = Annotated[
    str, option("--part", metavar="PART", help="Which part of the run's own data: test (the usual), valid or train.")
]
PartOfRule = Annotated[str, option("--part", metavar="PART", help="The run's own rows to choose on: valid or test.")]
Rule = Annotated[
    Text,
    option(
        "--for",
        metavar="RULE",
        help="What it is for: f1, precision=0.9, recall=0.95 or cost=FN:5,FP:1 (what a missed positive and a false "
        "alarm cost); none: the more probable class again. Without it the threshold is shown.",
    ),
]
