#!/usr/bin/env python3
"""Trains the network of six.toml with PyTorch, by distillation from a residual network with ReLU (a GPU is wanted).

    distil.py teacher cifar10.npz teacher.pt --epochs 41
    distil.py student cifar10.npz six.st --epochs 72 --teachers teacher.pt

The archive is the one that README.md names. Squares follow a normalisation whose scale and shift begin at 0.5, so that a square begins as
0.25 x^2 + 0.5 x + 0.25; what enters one beyond --reach is penalised. The student learns the teacher's probabilities at a temperature (Hinton, Vinyals
and Dean, arXiv 1503.02531). Parameters are averaged over the last two hundred steps, and statistics taken anew for them. six.st has PyTorch's names, for
`party model import`.
"""
import argparse
import math
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors.torch import save_file


class Square(nn.Module):
    def forward(self, x):
        self.seen = x
        return x * x


class Residual(nn.Module):
    def __init__(self, *layers):
        super().__init__()
        self.body = nn.Sequential(*layers)

    def forward(self, x):
        return x + self.body(x)


def conv(a, b, squares=True):
    norm = nn.BatchNorm2d(b)
    if squares:
        nn.init.constant_(norm.weight, 0.5)
        nn.init.constant_(norm.bias, 0.5)
    return [nn.Conv2d(a, b, 3, 1, 1), norm, Square() if squares else nn.ReLU()]


# Channels of the convolutions; 0 is a mean pooling.
SIX = [64, 128, 0, 256, 256, 0, 384, 384]


def network(kind):
    if kind == "teacher":
        c = lambda a, b: conv(a, b, False)
        return nn.Sequential(
            nn.BatchNorm2d(3), *c(3, 64), *c(64, 128), nn.MaxPool2d(2), Residual(*c(128, 128), *c(128, 128)),
            *c(128, 256), nn.MaxPool2d(2), Residual(*c(256, 256), *c(256, 256)),
            *c(256, 512), nn.MaxPool2d(2), Residual(*c(512, 512), *c(512, 512)), nn.MaxPool2d(4), nn.Flatten(), nn.Dropout(0.2), nn.Linear(512, 10))
    layers, width = [nn.BatchNorm2d(3)], 3
    for channels in SIX:
        if channels == 0:
            layers.append(nn.AvgPool2d(2))
        else:
            layers += conv(width, channels)
            width = channels
    return nn.Sequential(*layers, nn.AvgPool2d(4), nn.Flatten(), nn.Dropout(0.2), nn.Linear(4 * width, 10))


def vary(x, hole):
    """Moved by up to four pixels, mirrored, and with a hole of its mean colour, each image in its own way."""
    n, dev = len(x), x.device
    x = F.pad(x, (4, 4, 4, 4), mode="reflect")
    at = torch.randint(0, 9, (2, n, 1), device=dev)
    flip = torch.rand(n, 1, device=dev) < 0.5
    line = torch.arange(32, device=dev)
    rows, columns = at[0] + line, at[1] + torch.where(flip, 31 - line, line)
    x = x.permute(0, 2, 3, 1)[torch.arange(n, device=dev)[:, None, None], rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    if hole:
        middle = torch.randint(0, 32, (2, n, 1), device=dev)
        inside = lambda m: ((line - m).abs() <= hole // 2)
        mask = inside(middle[0])[:, None, :, None] & inside(middle[1])[:, None, None, :]
        x = torch.where(mask, x.mean((0, 2, 3), keepdim=True), x)
    return x.contiguous(memory_format=torch.channels_last)


def write(path, model):
    kept = {name: value for name, value in model.state_dict().items() if not name.endswith("num_batches_tracked")}
    save_file({name: value.detach().float().cpu().contiguous() for name, value in kept.items()}, path)


def main():
    a = argparse.ArgumentParser()
    a.add_argument("role", choices=["teacher", "student"])
    a.add_argument("archive")
    a.add_argument("out")
    a.add_argument("--seed", type=int, default=1)
    a.add_argument("--epochs", type=int, default=40)
    a.add_argument("--batch", type=int, default=500)
    a.add_argument("--rate", type=float, default=3e-3)
    a.add_argument("--decay", type=float, default=0.05)
    a.add_argument("--hole", type=int, default=8)
    a.add_argument("--temperature", type=float, default=3.0)
    a.add_argument("--labels", type=float, default=0.2, help="weight of the labels beside the teachers")
    a.add_argument("--reach", type=float, default=3.0, help="inputs of squares beyond this are penalised")
    a.add_argument("--penalty", type=float, default=0.1)
    a.add_argument("--teachers", nargs="*", default=[])
    a = a.parse_args()
    cuda = torch.cuda.is_available()
    dev = torch.device("cuda" if cuda else "cpu")
    torch.manual_seed(a.seed)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    archive = np.load(a.archive)
    load = lambda name: torch.from_numpy(archive[name]).to(dev)
    images, labels = load("train_images").float().div_(255), load("train_labels").long()
    test, truth = load("test_images").float().div_(255), load("test_labels").long()
    student = a.role == "student"
    kind = a.role
    model = network(kind).to(dev).to(memory_format=torch.channels_last)
    average = network(kind).to(dev).to(memory_format=torch.channels_last)
    average.load_state_dict(model.state_dict())
    teachers = []
    for path in a.teachers:
        teacher = network("teacher").to(dev).to(memory_format=torch.channels_last)
        teacher.load_state_dict(torch.load(path, map_location=dev))
        teachers.append(teacher.eval())
    squares = [m for m in model if isinstance(m, Square)]
    plain = [p for p in model.parameters() if p.dim() == 1]
    heavy = [p for p in model.parameters() if p.dim() > 1]
    groups = [{"params": heavy, "weight_decay": a.decay if student else 5e-4}, {"params": plain, "weight_decay": 0.0}]
    peak = a.rate if student else 0.2
    optimiser = torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.99)) if student else torch.optim.SGD(groups, lr=peak, momentum=0.9, nesterov=True)
    pairs = [(x, y) for x, y in zip(average.state_dict().values(), model.state_dict().values()) if x.is_floating_point()]
    steps = len(labels) // a.batch
    begin, counted = time.time(), 0
    total = torch.zeros((), device=dev)
    half = lambda: torch.autocast("cuda" if cuda else "cpu", dtype=torch.bfloat16)

    def judge(m):
        m.eval()
        with torch.no_grad():
            out = torch.cat([m(part) for part in test.split(1000)])
        m.train()
        return 100 * (out.argmax(1) == truth).float().mean().item(), F.cross_entropy(out, truth).item()

    def settle(m):
        """Statistics of the averaged parameters, from varied training images."""
        norms = [n for n in m.modules() if isinstance(n, nn.BatchNorm2d)]
        for n in norms:
            n.reset_running_stats()
            n.momentum = None
        m.train()
        with torch.no_grad(), half():
            for part in torch.randperm(len(labels), device=dev)[: 40 * a.batch].split(a.batch):
                m(vary(images[part], a.hole))

    for epoch in range(a.epochs):
        order = torch.randperm(len(labels), device=dev)
        for i in range(steps):
            done = (epoch + i / steps) / a.epochs
            warm = min(1.0, (counted + 1) / 300)
            for g in optimiser.param_groups:
                g["lr"] = peak * warm * (0.002 + 0.998 * 0.5 * (1 + math.cos(math.pi * done)))
            chosen = order[i * a.batch : (i + 1) * a.batch]
            with torch.no_grad():
                x, y = vary(images[chosen], a.hole), labels[chosen]
                soft = None
                if teachers:
                    with half():
                        soft = torch.stack([F.softmax(t(x).float() / a.temperature, 1) for t in teachers]).mean(0)
            with half():
                out = model(x).float()
            loss = F.cross_entropy(out, y)
            if soft is not None:
                part = -(soft * F.log_softmax(out / a.temperature, 1)).sum(1).mean() * a.temperature ** 2
                loss = a.labels * loss + part
            for s in squares:
                loss = loss + a.penalty * F.relu(s.seen.abs() - a.reach).square().sum().float() / a.batch
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            if student:
                torch.nn.utils.clip_grad_norm_(model.parameters(), 2.0)
            optimiser.step()
            counted += 1
            keep = min(0.995, (1 + counted) / (10 + counted))
            with torch.no_grad():
                total += loss.detach()
                torch._foreach_mul_([x for x, _ in pairs], keep)
                torch._foreach_add_([x for x, _ in pairs], [y for _, y in pairs], alpha=1 - keep)
        mean = total.item() / steps
        total.zero_()
        if (epoch + 1) % 5 == 0 or epoch + 1 == a.epochs:
            raw = judge(model)[0]
            settle(average)
            right, loss = judge(average)
            print(f"{a.out} {kind} raw {raw:.2f} epoch {epoch + 1}/{a.epochs} loss {mean:.4f} test {right:.2f} % loss {loss:.4f} {time.time() - begin:.0f} s", flush=True)
            if student:
                write(a.out, average)
            else:
                torch.save(average.state_dict(), a.out)


main()
