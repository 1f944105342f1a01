"""Measures the trainer beside transformers' Trainer: each pair one after the other, the order changing from pair to pair, and
what is reported is the median of the pairs' ratios. Whatever was measured stays in target/bench/results.jsonl, and a second
run goes on from there.

    bench.py [--pairs N] [--bam-dir FOLDER] [--list] [MEASURE ...]
"""

import argparse
import csv
import json
import os
import random
import shutil
import statistics
import struct
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
BENCH = ROOT / "target/bench"
RESULTS = BENCH / "results.jsonl"
TRAINER = ROOT / "target/release/bam-trainer"
MINILM = "all-MiniLM-L6-v2"
BASE = "bert-base-random"

START = "start"
BATCH, LONGEST = 32, 128
# All of SST-2 would take the peer two hours.
SST_ROWS = 8192
MNLI_ROWS = 392_702
# The first steps fill caches and thread pools.
WARM_UP, STEPS = 2, 6
# Forward and backward of BERT-base on 32 rows of 128 tokens: 3 * layers * length * (24 h^2 + 4 length h) each.
FLOP_OF_STEP = BATCH * 3 * 12 * LONGEST * (24 * 768**2 + 4 * LONGEST * 768)


# ----- processes


class Process:
    """A program that was run to its end: seconds, peak of memory in MiB, standard output."""

    def __init__(self, command):
        log = BENCH / "last.log"
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true", "BAM_DEVICE": "cpu"}
        with open(log, "wb") as errors:
            self.begin = time.time()
            started = subprocess.Popen(
                [str(word) for word in command], stdout=subprocess.PIPE, stderr=errors, env=environment, cwd=BENCH
            )
            self.output = started.stdout.read().decode()
            _, status, used = os.wait4(started.pid, 0)
            self.end = time.time()
        self.peak = used.ru_maxrss / 1024
        if status:
            sys.exit(f"{' '.join(map(str, command))} failed:\n{log.read_text()[-4000:]}")


def peer(*words):
    process = Process([sys.executable, HERE / "peer.py", *words])
    process.said = json.loads(process.output.splitlines()[-1])
    return process


def ours(name, options):
    return Process(command(name, options))


def command(name, options, kept=False):
    """The reference's command line. A run that is whole would not be trained again, so its folder is removed, and so are
    the word pieces of earlier ones, unless they are to be `kept`."""
    for folder in ("runs", "models") if kept else ("runs", "models", ".bam"):
        shutil.rmtree(BENCH / folder, ignore_errors=True)
    options = {
        "train_batch_size": BATCH,
        "max_seq_length": LONGEST,
        "num_train_epochs": 1.0,
        "dataset_multiples": False,
        "double_unordered": False,
        "write_test_outputs": False,
        "write_distill_outputs": False,
        "write_tensorboard": True,
        **options,
    }
    return [TRAINER, name, BENCH, json.dumps(options)]


def event_times(name):
    """When the training began and when each step was over: the wall times of TensorBoard's events."""
    (path,) = (BENCH / "models" / name / "tensorboard/trial_1").iterdir()
    data, times, at = path.read_bytes(), [], 0
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        event = data[at + 12 : at + 12 + length]
        assert event[0] == 0x09, "an event begins with its wall time"
        times.append(struct.unpack_from("<d", event, 1)[0])
        at += length + 16
    # The first is the format's version; the last are the scores.
    return times[1:]


# ----- inputs


def prepare(bam_dir):
    BENCH.mkdir(parents=True, exist_ok=True)
    data = Path(bam_dir).resolve() / "glue_data"
    missing = [task for task in ("rte", "cola", "sst", "mnli") if not (data / task / "train.tsv").is_file()]
    if missing:
        sys.exit(f"{data} lacks {', '.join(missing)}; name a folder with GLUE's data: BAM_DIR=...")
    for task in ("rte", "cola", "sst"):
        link_data(data / task, BENCH / "glue_data" / task)
    grow_mnli(data / "mnli", BENCH / "glue_data/mnli")
    subprocess.run([ROOT / "scripts/weights.sh", BENCH], check=True)
    base = BENCH / "pretrained_models" / BASE
    if not (base / "vocab.txt").exists():
        print(f"making {base}: BERT-base with random weights", flush=True)
        from transformers import BertConfig, BertModel, set_seed

        set_seed(1)
        BertModel(BertConfig()).save_pretrained(base)
        shutil.copy(BENCH / "pretrained_models" / MINILM / "vocab.txt", base)
    words = [line for line in (base / "vocab.txt").read_text().splitlines() if line.isascii() and line.isalpha()]
    write_rows("fixed", words, BATCH * (WARM_UP + STEPS), LONGEST - 2)


def link_data(data, folder):
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train.tsv", "dev.tsv"):
        (folder / split).unlink(missing_ok=True)
        (folder / split).symlink_to(data / split)
    if folder.name == "sst":
        (folder / "train.tsv").unlink()
        lines = (data / "train.tsv").read_bytes().splitlines(keepends=True)
        (folder / "train.tsv").write_bytes(b"".join(lines[: 1 + SST_ROWS]))


def grow_mnli(data, folder):
    """As many rows as MNLI has in full, from however many there are."""
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "train.tsv").exists():
        return
    header, *rows = (data / "train.tsv").read_bytes().splitlines(keepends=True)
    (folder / "train.tsv").write_bytes(header + b"".join((rows * (MNLI_ROWS // len(rows) + 1))[:MNLI_ROWS]))
    shutil.copy(data / "dev_matched.tsv", folder)


def write_rows(name, words, rows, length):
    """A task of rows of `length` word pieces each, and as few for dev."""
    folder = BENCH / "own" / name
    folder.mkdir(parents=True, exist_ok=True)
    source = random.Random(1)
    for split, count in (("train", rows), ("dev", 2)):
        with open(folder / f"{split}.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "label"])
            writer.writerows([" ".join(source.choices(words, k=length)), "yn"[row % 2]] for row in range(count))


def own_task(name):
    files = {split: f"own/{name}/{split}.csv" for split in ("train", "dev")}
    return {
        "task_names": [name],
        "custom_tasks": {name: {**files, "format": "CSV", "text_a": "text", "label": "label", "labels": ["n", "y"]}},
    }


# ----- measures: each gives what is compared of us and of the peer, as (figure, more to keep)


def step_seconds(times):
    steps = [after - before for before, after in zip(times, times[1:])][WARM_UP:]
    return statistics.median(steps[:STEPS])


def steps(precision):
    def measure():
        options = {**own_task("fixed"), "pretrained_model_name": BASE, "precision": precision}
        process = ours("steps", options)
        seconds = step_seconds(event_times("steps"))
        return seconds, {"peak_mib": process.peak}

    def measure_peer():
        train = BENCH / "own/fixed/train.csv"
        half = ["--bf16"] if precision == "bf16" else []
        process = peer("steps", BENCH / "pretrained_models" / BASE, train, WARM_UP + STEPS, *half)
        seconds = step_seconds(process.said["times"])
        return seconds, {"peak_mib": process.peak, "threads": process.said["threads"]}

    return measure, measure_peer


def epoch(task, padding):
    def measure():
        process = ours(task, {"task_names": [task], "pretrained_model_name": MINILM})
        results = json.loads((BENCH / "models" / task / "results.json").read_text())
        # The dev score is the last event. What follows is more than the peer does: targets, and the model for later use.
        return event_times(task)[-1] - process.begin, {"results": results, "all_seconds": process.end - process.begin}

    def measure_peer():
        folder = BENCH / "glue_data" / task
        process = peer("epoch", BENCH / "pretrained_models" / MINILM, folder, task, padding)
        return process.end - process.begin, {"score": process.said["score"]}

    return measure, measure_peer


def start():
    """Seconds from the start of the process to the first step, on MNLI's full size: the first time and the second."""
    seconds = []
    for kept in (False, True):
        words = command(START, {"task_names": ["mnli"], "pretrained_model_name": MINILM}, kept)
        begin = time.time()
        started = subprocess.Popen(list(map(str, words)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        events = BENCH / "models" / START / "tensorboard/trial_1"
        while started.poll() is None and not (events.is_dir() and event_times(START)):
            time.sleep(0.05)
        started.kill()
        started.wait()
        seconds.append(event_times(START)[0] - begin)
    return seconds


# What it is, goal (how many times as much the peer takes), and how it is measured.
MEASURES = {
    "step-fp32": ("BERT-base, step of 32 x 128, fp32", 2.5, steps("fp32")),
    "step-bf16": ("BERT-base, step of 32 x 128, bf16", 1.2, steps("bf16")),
    "rte": ("RTE, MiniLM, an epoch and the dev score, peer pads to 128", 3, epoch("rte", "max_length")),
    "rte-dynamic": ("RTE, the same, peer pads to the longest of a batch", 2.5, epoch("rte", "longest")),
    "cola": ("CoLA, MiniLM, an epoch and the dev score, peer pads to 128", 8, epoch("cola", "max_length")),
    "cola-dynamic": ("CoLA, the same, peer pads to the longest of a batch", 2.5, epoch("cola", "longest")),
    "sst": (f"SST-2, {SST_ROWS} rows, MiniLM, the same, peer pads to 128", 8, epoch("sst", "max_length")),
    "sst-dynamic": ("SST-2, the same, peer pads to the longest of a batch", 2.5, epoch("sst", "longest")),
}


# ----- results


def known():
    if not RESULTS.exists():
        return []
    return [json.loads(line) for line in RESULTS.read_text().splitlines()]


def run(name, pair):
    measure, measure_peer = MEASURES[name][2]
    sides = {"ours": measure, "peer": measure_peer}
    order = list(sides) if pair % 2 else list(reversed(sides))
    result = {"measure": name, "pair": pair, "time": time.strftime("%F %T"), "load": os.getloadavg()[0]}
    for side in order:
        result[side], result[f"{side}_more"] = sides[side]()
        print(f"{name}, pair {pair}: {side} {result[side]:.2f} s", flush=True)
    keep(result)


def run_start(pair):
    result = {"measure": START, "pair": pair, "time": time.strftime("%F %T"), "load": os.getloadavg()[0]}
    result["first"], result["second"] = start()
    keep(result)


def keep(result):
    with open(RESULTS, "a") as file:
        file.write(json.dumps(result) + "\n")


def table(results):
    print(f"\n{'what':60} {'ours':>8} {'peer':>8}     {'ratio':>6} {'goal':>5} pairs")
    for name, (what, goal, _) in MEASURES.items():
        of_it = [result for result in results if result["measure"] == name]
        if not of_it:
            continue
        print(line(what, "s", goal, of_it, lambda result, side: result[side]))
        if name.startswith("step"):
            rates = [FLOP_OF_STEP / statistics.median(result[side] for result in of_it) / 1e9 for side in ("ours", "peer")]
            print(f"{'':60} {rates[0]:8.0f} {rates[1]:8.0f} GFLOP/s")
            print(line("  peak of memory", "MiB", 1 / 0.7, of_it, lambda result, side: result[f"{side}_more"]["peak_mib"]))


    starts = [result for result in results if result["measure"] == START]
    if starts:
        first, second = (statistics.median(result[time] for result in starts) for time in ("first", "second"))
        what = f"{MNLI_ROWS} rows of MNLI, from the start of the process to step 1"
        print(f"{what:60} {second:8.2f} s, the first time {first:.2f} s; goal 1.5 s")


def line(what, unit, goal, results, figure):
    mine, its = (statistics.median(figure(result, side) for result in results) for side in ("ours", "peer"))
    ratio = statistics.median(figure(result, "peer") / figure(result, "ours") for result in results)
    return f"{what:60} {mine:8.2f} {its:8.2f} {unit:3} {ratio:6.2f} {goal:5.2f} {len(results):5}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=3, help="pairs of each measure in all, those of earlier runs included")
    parser.add_argument("--bam-dir", default=os.environ.get("BAM_DIR"), help="folder with glue_data")
    parser.add_argument("--list", action="store_true", help="show what can be measured")
    parser.add_argument("measures", nargs="*", metavar="MEASURE")
    options = parser.parse_args()
    if options.list:
        for name, (what, *_) in MEASURES.items():
            print(f"{name:14} {what}")
        print(f"{START:14} how soon a training on all of MNLI begins, and begins again")
        return
    unknown = set(options.measures) - set(MEASURES) - {START}
    if unknown or not options.bam_dir:
        sys.exit(f"no such measure: {', '.join(sorted(unknown))}; see --list" if unknown else "name a folder with glue_data: BAM_DIR=...")
    prepare(options.bam_dir)
    for name in options.measures or [*MEASURES, START]:
        done = sum(result["measure"] == name for result in known())
        for pair in range(done + 1, options.pairs + 1):
            run_start(pair) if name == START else run(name, pair)
    table(known())


if __name__ == "__main__":
    main()
