#!/usr/bin/env python3
"""Trains the network of distilled.toml with PyTorch, by distillation from convolutional networks with ReLU (a GPU is wanted).

    distil.py teacher FOLDER OUT.pt --seed 1 --epochs 15
    distil.py student FOLDER OUT.st --seed 2 --epochs 100 --teachers A.pt B.pt ...

FOLDER holds MNIST's four files, unpacked. Squares follow a normalisation whose scale and shift begin at 0.5, so that a square begins as
0.25 x^2 + 0.5 x + 0.25; what enters one beyond --reach is penalised, so that encrypted values stay small. The student learns the mean of the
teachers' probabilities at a temperature (Hinton, Vinyals and Dean, arXiv 1503.02531) on images that are varied anew in every epoch. Parameters are
averaged over the last thousand steps. OUT.st has PyTorch's names, for `party model import`.
"""
import argparse
import math
import os
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors.torch import save_file


def read(folder, name):
    with open(os.path.join(folder, name), "rb") as file:
        data = file.read()
    images = data[2:4] == b"\x08\x03"
    return np.frombuffer(data[16 if images else 8 :], np.uint8).reshape((-1, 1, 28, 28) if images else -1).copy()


class Square(nn.Module):
    def forward(self, x):
        self.seen = x
        return x * x


def conv(a, b, k, stride=1, padding=0, squares=True):
    norm = nn.BatchNorm2d(b)
    if squares:
        nn.init.constant_(norm.weight, 0.5)
        nn.init.constant_(norm.bias, 0.5)
    return [nn.Conv2d(a, b, k, stride, padding), norm, Square() if squares else nn.ReLU()]


def network(kind):
    if kind == "teacher":
        c = lambda *a, **k: conv(*a, squares=False, **k)
        return nn.Sequential(
            *c(1, 32, 3), *c(32, 32, 3), *c(32, 32, 5, stride=2, padding=2), nn.Dropout(0.4),
            *c(32, 64, 3), *c(64, 64, 3), *c(64, 64, 5, stride=2, padding=2), nn.Dropout(0.4),
            *c(64, 128, 4), nn.Flatten(), nn.Dropout(0.4), nn.Linear(128, 10),
        )
    layers = conv(1, 24, 5, 2, 2) + conv(24, 48, 5, 2, 1) + conv(48, 96, 3)
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.4), nn.Linear(96 * 16, 10))


def vary(x):
    """Turned, sheared, scaled, shifted, and bent a little, each image in its own way."""
    n, dev = len(x), x.device
    u = lambda: torch.rand(n, device=dev) * 2 - 1
    turn, shear = u() * math.radians(15), torch.tan(u() * math.radians(10))
    sx, sy = 1 + 0.15 * u(), 1 + 0.15 * u()
    cos, sin = torch.cos(turn), torch.sin(turn)
    theta = torch.stack(
        [torch.stack([cos * sx, (shear * cos - sin) * sy, 0.16 * u()], 1),
         torch.stack([sin * sx, (shear * sin + cos) * sy, 0.16 * u()], 1)], 1)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    field = torch.randn(n, 2, 6, 6, device=dev) * (torch.rand(n, 1, 1, 1, device=dev) * 0.10)
    bend = F.interpolate(field, size=(28, 28), mode="bilinear", align_corners=True)
    return F.grid_sample(x, grid + bend.permute(0, 2, 3, 1), align_corners=False)


def write(path, model):
    kept = {name: value for name, value in model.state_dict().items() if not name.endswith("num_batches_tracked")}
    save_file({name: value.detach().float().cpu().contiguous() for name, value in kept.items()}, path)


def main():
    a = argparse.ArgumentParser()
    a.add_argument("role", choices=["teacher", "student"])
    a.add_argument("folder")
    a.add_argument("out")
    a.add_argument("--seed", type=int, default=1)
    a.add_argument("--epochs", type=int, default=40)
    a.add_argument("--batch", type=int, default=256)
    a.add_argument("--rate", type=float, default=3e-3)
    a.add_argument("--decay", type=float, default=0.05)
    a.add_argument("--floor", type=float, default=0.02, help="last step size as a part of the first")
    a.add_argument("--temperature", type=float, default=2.0)
    a.add_argument("--labels", type=float, default=0.3, help="weight of the labels beside the teachers")
    a.add_argument("--reach", type=float, default=3.0, help="inputs of squares beyond this are penalised")
    a.add_argument("--penalty", type=float, default=0.1)
    a.add_argument("--teachers", nargs="*", default=[])
    a = a.parse_args()
    dev = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(a.seed)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    load = lambda name: torch.from_numpy(read(a.folder, name)).to(dev)
    images = load("train-images-idx3-ubyte").float().div_(255)
    labels = load("train-labels-idx1-ubyte").long()
    test = load("t10k-images-idx3-ubyte").float().div_(255)
    truth = load("t10k-labels-idx1-ubyte").long()
    student = a.role == "student"
    model = network(a.role).to(dev)
    average = network(a.role).to(dev)
    average.load_state_dict(model.state_dict())
    teachers = []
    for path in a.teachers:
        teacher = network("teacher").to(dev)
        teacher.load_state_dict(torch.load(path, map_location=dev))
        teachers.append(teacher.eval())
    squares = [m for m in model if isinstance(m, Square)]
    rate = torch.tensor(a.rate, device=dev)
    plain = [p for p in model.parameters() if p.dim() == 1]
    heavy = [p for p in model.parameters() if p.dim() > 1]
    capturable = dev.type == "cuda"
    optimiser = torch.optim.AdamW(
        [{"params": heavy, "weight_decay": a.decay}, {"params": plain, "weight_decay": 0.0}],
        lr=rate if capturable else a.rate, betas=(0.9, 0.99), **({"capturable": True} if capturable else {}))
    chosen = torch.zeros(a.batch, dtype=torch.long, device=dev)
    total = torch.zeros((), device=dev)
    pairs = list(zip(average.state_dict().values(), model.state_dict().values()))
    floats = [(x, y) for x, y in pairs if x.is_floating_point()]
    keep = torch.tensor(0.0, device=dev)

    def step():
        with torch.no_grad():
            x, y = vary(images[chosen]), labels[chosen]
            soft = None
            if teachers:
                soft = torch.stack([F.softmax(t(x) / a.temperature, 1) for t in teachers]).mean(0)
        out = model(x)
        loss = F.cross_entropy(out, y)
        if soft is not None:
            part = -(soft * F.log_softmax(out / a.temperature, 1)).sum(1).mean() * a.temperature ** 2
            loss = a.labels * loss + part
        for s in squares:
            loss = loss + a.penalty * F.relu(s.seen.abs() - a.reach).square().sum() / a.batch
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 2.0)
        optimiser.step()
        with torch.no_grad():
            total.add_(loss.detach())
            for x, y in floats:
                x.add_((y - x) * (1 - keep))

    steps = len(labels) // a.batch
    run, counted = step, 0
    order = torch.randperm(len(labels), device=dev)
    if dev.type == "cuda":
        chosen.copy_(order[: a.batch])
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        rate.fill_(1e-5)
        with torch.cuda.stream(side):
            for _ in range(4):
                step()
        torch.cuda.current_stream().wait_stream(side)
        try:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                step()
            run = graph.replay
        except Exception as error:
            print("no graph:", error, flush=True)
        total.zero_()

    def judge(m):
        m.eval()
        with torch.no_grad():
            out = torch.cat([m(part) for part in test.split(2000)])
        m.train()
        return 100 * (out.argmax(1) == truth).float().mean().item(), F.cross_entropy(out, truth).item()

    begin = time.time()
    for epoch in range(a.epochs):
        order = torch.randperm(len(labels), device=dev)
        for i in range(steps):
            done = (epoch + i / steps) / a.epochs
            now = a.rate * min(1.0, (counted + 1) / 400) * (a.floor + (1 - a.floor) * 0.5 * (1 + math.cos(math.pi * done)))
            rate.fill_(now)
            if dev.type == "cpu":
                for g in optimiser.param_groups:
                    g["lr"] = now
            keep.fill_(min(0.999, (1 + counted) / (10 + counted)))
            chosen.copy_(order[i * a.batch : (i + 1) * a.batch])
            run()
            counted += 1
        if (epoch + 1) % 10 == 0 or epoch + 1 == a.epochs:
            right, loss = judge(average)
            print(f"{a.out} {a.role} epoch {epoch + 1}/{a.epochs} loss {total.item() / counted:.4f} test {right:.2f} % loss {loss:.4f} {time.time() - begin:.0f} s", flush=True)
            if student:
                write(a.out, average)
            else:
                torch.save(average.state_dict(), a.out)


main()
