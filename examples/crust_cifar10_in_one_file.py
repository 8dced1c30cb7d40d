"""CRUST on CIFAR-10 in one file of plain torch, to be read from top to bottom; it imports nothing of noisylabels_pl.

"Coresets for Robust Training of Neural Networks against Noisy Labels" (Mirzasoleiman, Cao and Leskovec, NeurIPS 2020,
https://arxiv.org/abs/2011.07451), in the variant that noisylabels_pl.Crust is by default. The recipe is the paper's:
ResNet-32, SGD, 120 epochs, batches of 128. Plain training on the same noisy labels stands beside it.

    python examples/crust_cifar10_in_one_file.py data     # CIFAR-10 in the folder data/, downloaded if it is not there
    python examples/crust_cifar10_in_one_file.py          # generated pictures, in seconds, to see it run

The seconds with generated pictures are too short to memorize wrong labels, so cross-entropy does as well there. What to
look at is the share of right labels among the selected samples.
"""

import sys

import torch
from torch import nn
from torch.nn import functional as F
from torchvision.datasets import CIFAR10

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
NUM_CLASSES = 10
NOISE_RATE = 0.5  # share of the training labels that are made wrong


# Data: images stay bytes until they are in a batch. -----------------------------------------------


def load_cifar10(folder):
    """Return training and test images (n, 3, 32, 32) uint8, each with its true labels."""
    for is_train in (True, False):
        dataset = CIFAR10(folder, train=is_train, download=True)
        yield torch.from_numpy(dataset.data).permute(0, 3, 1, 2).to(DEVICE), torch.tensor(dataset.targets).to(DEVICE)


def make_pictures():
    """Return the same for generated pictures: a color for each class, much disturbed."""
    colors = torch.rand(NUM_CLASSES, 3, 1, 1)
    for size in (1000, 1000):
        labels = torch.randint(NUM_CLASSES, (size,))
        pictures = colors[labels] + 0.1 * torch.randn(size, 3, 8, 8)
        yield (255 * pictures.clamp(0, 1)).to(torch.uint8).to(DEVICE), labels.to(DEVICE)


def with_wrong_labels(labels):
    """Return labels of which a share of NOISE_RATE is replaced by one of the other classes."""
    is_wrong = torch.rand(len(labels), device=DEVICE) < NOISE_RATE
    others = (labels + torch.randint_like(labels, 1, NUM_CLASSES)) % NUM_CLASSES
    return torch.where(is_wrong, others, labels)


def normalize(images):
    return (images.float() / 255 - 0.47) / 0.2


def crop_and_flip(images):
    """Move each image by up to an eighth of its side in both directions, and mirror half of them."""
    size, side = len(images), images.shape[-1]
    padding = side // 8
    offsets = torch.randint(2 * padding + 1, (2, size, 1, 1), device=DEVICE)
    rows = offsets[0] + torch.arange(side, device=DEVICE).view(1, side, 1)
    columns = offsets[1] + torch.arange(side, device=DEVICE).view(1, 1, side)
    columns = torch.where(torch.rand(size, 1, 1, device=DEVICE) < 0.5, columns, columns.flip(2))
    samples = torch.arange(size, device=DEVICE).view(size, 1, 1)
    return F.pad(images, [padding] * 4).permute(0, 2, 3, 1)[samples, rows, columns].permute(0, 3, 1, 2)


# The network: ResNet-32, whose shortcuts have no parameters. --------------------------------------


class Block(nn.Module):
    def __init__(self, in_channels, channels):
        super().__init__()
        self.stride = channels // in_channels
        self.new_channels = channels - in_channels
        self.conv1 = nn.Conv2d(in_channels, channels, 3, self.stride, padding=1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)

    def forward(self, x):
        residual = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        shortcut = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.new_channels))
        return F.relu(residual + shortcut)


def resnet(blocks_per_stage):
    layers = [nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    for in_channels, channels in ((16, 16), (16, 32), (32, 64)):
        layers += [Block(in_channels, channels)] + [Block(channels, channels) for _ in range(blocks_per_stage - 1)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, NUM_CLASSES)).to(DEVICE)


@torch.no_grad()
def predict(network, images):
    """Return the logits (n, C) of all images, in evaluation mode and without augmentation."""
    network.eval()
    return torch.cat([network(normalize(batch)) for batch in images.split(500)])


# CRUST: before each epoch, select the samples to train on, and a partner to mix each of them with. --


def select(logits, labels, fraction=0.5):
    """Return the selected samples and their partners, both (k,) positions in the training set.

    The gradient of cross-entropy with respect to the logits is p - y. Samples with right labels have similar gradients,
    wrong labels scatter them. So each class, as the network predicts it, keeps the samples with the smallest mean
    distance to all of its members.
    """
    gradients = (logits.softmax(1) - F.one_hot(labels, logits.shape[1])).double()
    selected, partners = [], []
    for predicted in range(logits.shape[1]):
        members = torch.where(logits.argmax(1) == predicted)[0]
        if int(fraction * len(members)) == 0:
            continue
        points = gradients[members]
        mean_distances = torch.cat([distances(rows, points).mean(1) for rows in points.split(1000)])
        medoids = mean_distances.sort(stable=True).indices[: int(fraction * len(members))]
        clusters = torch.cat([distances(rows, points[medoids]).argmin(1) for rows in points.split(1000)])
        clusters[medoids] = torch.arange(len(medoids), device=clusters.device)
        selected.append(members[medoids])
        partners.append(members[draw_partners(medoids, clusters)])
    return torch.cat(selected), torch.cat(partners)


def distances(points, others):
    return torch.cdist(points, others, compute_mode="donot_use_mm_for_euclid_dist")


def draw_partners(medoids, clusters):
    """Return for each medoid a random other member of its cluster (eq. 11), or itself if it is alone."""
    partners = medoids.clone()
    others = torch.ones_like(clusters, dtype=torch.bool)
    others[medoids] = False
    shuffled = torch.where(others)[0]
    shuffled = shuffled[torch.randperm(len(shuffled), device=shuffled.device)]
    partners[clusters[shuffled]] = shuffled  # of several members of a cluster, one remains
    return partners


# Training. ----------------------------------------------------------------------------------------


def train(train_set, noisy, test_set, *, crust, epochs, blocks_per_stage, warmup_epochs=5):
    """Train on noisy labels, by CRUST or plainly; return the accuracy on the test set after the last epoch."""
    (images, true_labels), (test_images, test_labels) = train_set, test_set
    network = resnet(blocks_per_stage)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [epochs * 2 // 3, epochs * 5 // 6], gamma=0.1)
    for epoch in range(epochs):
        selected = partners = torch.arange(len(images), device=DEVICE)
        if crust and epoch >= warmup_epochs:
            selected, partners = select(predict(network, images), noisy)
        network.train()
        for batch in torch.randperm(len(selected), device=DEVICE).split(128):
            first, second = selected[batch], partners[batch]
            share = torch.rand(len(batch), device=DEVICE)  # of the first sample in the mixture
            share = torch.where(first == second, 1, share)
            x = normalize(crop_and_flip(images[first])), normalize(crop_and_flip(images[second]))
            logits = network(share.view(-1, 1, 1, 1) * x[0] + (1 - share.view(-1, 1, 1, 1)) * x[1])
            losses = [F.cross_entropy(logits, noisy[side], reduction="none") for side in (first, second)]
            loss = (share * losses[0] + (1 - share) * losses[1]).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
        accuracy = (predict(network, test_images).argmax(1) == test_labels).float().mean().item()
        share_right = (noisy[selected] == true_labels[selected]).float().mean().item()
        print(f"epoch {epoch + 1}/{epochs}: {len(selected)} samples, {share_right:.1%} of their labels right; ", end="")
        print(f"test accuracy {accuracy:.1%}")
    return accuracy


if __name__ == "__main__":
    torch.manual_seed(0)
    is_tiny = len(sys.argv) == 1
    train_set, test_set = make_pictures() if is_tiny else load_cifar10(sys.argv[1])
    noisy = with_wrong_labels(train_set[1])
    options = {"epochs": 30, "blocks_per_stage": 1} if is_tiny else {"epochs": 300, "blocks_per_stage": 5}
    plain = train(train_set, noisy, test_set, crust=False, **options)
    crust = train(train_set, noisy, test_set, crust=True, **options)
    print(f"test accuracy: {plain:.1%} with cross-entropy, {crust:.1%} with CRUST")
