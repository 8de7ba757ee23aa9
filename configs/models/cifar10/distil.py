#!/usr/bin/env python3
"""Trains the network of six.toml with PyTorch, by distillation from a residual network with ReLU (a GPU is wanted).

    distil.py teacher cifar10.npz teacher.pt --epochs 72
    distil.py student cifar10.npz six.st --epochs 268 --teachers teacher.pt

The archive is the one that README.md names. The teacher is a ResNet-18 for small images (He and others, arXiv 1512.03385). Squares follow a
normalisation whose scale and shift begin at 0.5, so that a square begins as 0.25 x^2 + 0.5 x + 0.25; what enters one beyond --reach is penalised. The student
learns the teacher's probabilities at a temperature (Hinton, Vinyals and Dean, arXiv 1503.02531). No image weighs more than one whose loss is 40: squares
of squares make single images very large, and such a one would decide a step alone. Parameters are averaged over the last five hundred steps, and statistics taken
anew for them, from images without holes. six.st has PyTorch's names, for `party model import`; --half writes it in half precision.
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

# No image weighs more than one of this loss, or with this much beyond the reach.
MOST_LOSS, MOST_BEYOND = 40.0, 100.0
# Channels of the convolutions; 0 is a mean pooling.
SIX = [64, 128, 0, 256, 256, 0, 384, 384]


class Square(nn.Module):
    def forward(self, x):
        return x * x


class Residual(nn.Module):
    def __init__(self, a, b, stride):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(a, b, 3, stride, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU(), nn.Conv2d(b, b, 3, 1, 1, bias=False), nn.BatchNorm2d(b))
        self.short = nn.Identity() if a == b and stride == 1 else nn.Sequential(nn.Conv2d(a, b, 1, stride, bias=False), nn.BatchNorm2d(b))

    def forward(self, x):
        return F.relu(self.body(x) + self.short(x))


def network(role):
    if role == "teacher":
        layers, width = [nn.BatchNorm2d(3), nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()], 64
        for b, stride in ((64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)):
            layers.append(Residual(width, b, stride))
            width = b
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))
    layers, width = [nn.BatchNorm2d(3)], 3
    for channels in SIX:
        if channels == 0:
            layers.append(nn.AvgPool2d(2))
            continue
        norm = nn.BatchNorm2d(channels)
        nn.init.constant_(norm.weight, 0.5)
        nn.init.constant_(norm.bias, 0.5)
        layers += [nn.Conv2d(width, channels, 3, 1, 1), norm, Square()]
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


def outputs(model, x, reach):
    """Outputs, and for each image the squares of what its inputs of squares are beyond the reach."""
    beyond = torch.zeros(len(x), device=x.device)
    for layer in model:
        if isinstance(layer, Square):
            beyond = beyond + F.relu(x.abs() - reach).square().sum((1, 2, 3), dtype=torch.float32)
        x = layer(x)
    return x.float(), beyond


def bounded(values, most):
    """Their mean, in which what is larger than `most` counts as that much."""
    return (values * (most / values.detach().clamp(min=most))).mean()


def write(path, model, role, half):
    if role == "teacher":
        torch.save(model.state_dict(), path + ".part")
    else:
        kept = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items() if not name.endswith("num_batches_tracked")}
        save_file({name: value.half() if half else value.float() for name, value in kept.items()}, path + ".part")
    os.replace(path + ".part", path)


def main():
    a = argparse.ArgumentParser()
    a.add_argument("role", choices=["teacher", "student"])
    a.add_argument("archive")
    a.add_argument("out")
    a.add_argument("--seed", type=int, default=1)
    a.add_argument("--epochs", type=int, default=72)
    a.add_argument("--batch", type=int, default=500)
    a.add_argument("--rate", type=float, help="largest step size; 0.3 for teachers, 3e-3 for students")
    a.add_argument("--decay", type=float, default=0.05, help="weight decay of students")
    a.add_argument("--hole", type=int, default=8)
    a.add_argument("--temperature", type=float, default=3.0)
    a.add_argument("--labels", type=float, default=0.1, help="weight of the labels beside the teachers")
    a.add_argument("--reach", type=float, default=3.0, help="inputs of squares beyond this are penalised")
    a.add_argument("--penalty", type=float, default=0.2)
    a.add_argument("--keep", type=float, default=0.998, help="of the average of parameters, from step to step")
    a.add_argument("--half", action="store_true")
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
    learner = a.role == "student"
    new = lambda role: network(role).to(dev).to(memory_format=torch.channels_last)
    model, average = new(a.role), new(a.role)
    average.load_state_dict(model.state_dict())
    teachers = []
    for path in a.teachers:
        teacher = new("teacher")
        teacher.load_state_dict(torch.load(path, map_location=dev))
        teachers.append(teacher.eval().requires_grad_(False))
    plain = [p for p in model.parameters() if p.dim() == 1]
    heavy = [p for p in model.parameters() if p.dim() > 1]
    peak = a.rate or (3e-3 if learner else 0.3)
    if learner:
        groups = [{"params": heavy, "weight_decay": a.decay}, {"params": plain, "weight_decay": 0.0}]
        optimiser = torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.99), fused=cuda)
    else:
        optimiser = torch.optim.SGD(heavy + plain, lr=peak, momentum=0.9, nesterov=True, weight_decay=5e-4)
    averaged = [x for x in average.state_dict().values() if x.is_floating_point()]
    current = [x for x in model.state_dict().values() if x.is_floating_point()]
    steps = len(labels) // a.batch
    half = lambda: torch.autocast("cuda" if cuda else "cpu", dtype=torch.bfloat16)

    def loss_of(x, y, soft):
        with half():
            out, beyond = outputs(model, x, a.reach)
        if not learner:
            return F.cross_entropy(out, y)
        loss = a.labels * F.cross_entropy(out, y, reduction="none")
        if soft is not None:
            loss = loss - (soft * F.log_softmax(out / a.temperature, 1)).sum(1) * a.temperature ** 2
        return bounded(loss, MOST_LOSS) + a.penalty * bounded(beyond, MOST_BEYOND)

    def soften(x):
        with half():
            return torch.stack([F.softmax(t(x).float() / a.temperature, 1) for t in teachers]).mean(0)

    if cuda:
        loss_of, soften = torch.compile(loss_of), torch.compile(soften)

    def judge(m):
        m.eval()
        with torch.no_grad():
            out = torch.cat([m(part) for part in test.split(1000)])
        m.train()
        return 100 * (out.argmax(1) == truth).float().mean().item(), out.min().item(), out.max().item()

    def settle(m, hole):
        """Statistics of the averaged parameters."""
        for n in (n for n in m.modules() if isinstance(n, nn.BatchNorm2d)):
            n.reset_running_stats()
            n.momentum = None
        m.train()
        with torch.no_grad():
            for part in torch.randperm(len(labels), device=dev)[:20000].split(1000):
                m(vary(images[part], hole))

    begin, counted, total = time.time(), 0, torch.zeros((), device=dev)
    every = max(1, a.epochs // 12)
    for epoch in range(a.epochs):
        order = torch.randperm(len(labels), device=dev)
        for i in range(steps):
            done = (epoch + i / steps) / a.epochs
            counted += 1
            rate = peak * min(1.0, counted / 500) * (0.001 + 0.999 * 0.5 * (1 + math.cos(math.pi * done)))
            for group in optimiser.param_groups:
                group["lr"] = rate
            chosen = order[i * a.batch : (i + 1) * a.batch]
            with torch.no_grad():
                x, y = vary(images[chosen], a.hole), labels[chosen]
                soft = soften(x) if teachers else None
            loss = loss_of(x, y, soft)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            if learner:
                torch.nn.utils.clip_grad_norm_(model.parameters(), 2.0)
            optimiser.step()
            with torch.no_grad():
                total += loss.detach()
                torch._foreach_lerp_(averaged, current, 1 - min(a.keep, (1 + counted) / (10 + counted)))
        if (epoch + 1) % every == 0 or epoch + 1 == a.epochs:
            settle(average, 0 if learner else a.hole)
            right, low, high = judge(average)
            print(f"epoch {epoch + 1}/{a.epochs}: loss {total.item() / counted:.4f} on average, test {right:.2f} %, outputs {low:.1f} to {high:.1f}, {time.time() - begin:.0f} s", flush=True)
            write(a.out, average, a.role, a.half)


main()
